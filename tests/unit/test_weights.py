"""A model's files are those that somebody has committed the digests of, or there are none."""

import hashlib
import json
import os
import subprocess
import sys

import pytest

from services.cli.exits import EXIT_USAGE
from services.gpu_worker.weights import WeightsRefused, check, read
from tests.unit.hub_under_test import COMMIT, REPOSITORY, running_hub

LARGE = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(demo_model_dir):
    """The demo model, and what else repositories hold."""
    files = {
        str(path.relative_to(demo_model_dir)): path.read_bytes()
        for path in demo_model_dir.rglob("*")
        if path.is_file() and "image-to-video" not in path.parts
    }
    with running_hub(
        {**files, "README.md": b"# Reel", "assets/cover.png": b"png"},
        large={name for name in files if name.endswith(".safetensors")},
    ) as running:
        yield running


@pytest.fixture
def weights(hub, tmp_path):
    """The program, as an image runs it: by itself, asking this hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }

    def run(*arguments, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "services.gpu_worker.weights", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done

    return run


@pytest.fixture
def manifest(weights, tmp_path):
    weights("record", REPOSITORY, COMMIT, tmp_path / "weights.json")
    return tmp_path / "weights.json"


@pytest.fixture
def fetched(weights, manifest, tmp_path):
    weights("fetch", manifest, tmp_path / "model")
    return tmp_path / "model"


def test_a_manifest_names_every_file_of_the_model_and_nothing_else(manifest, hub):
    recorded = read(manifest)
    assert (recorded.repository, recorded.commit) == (REPOSITORY, COMMIT)
    assert recorded.files.keys() == hub.files.keys() - {
        "README.md",
        "assets/cover.png",
        "promptreel-demo-model.json",
    }
    for name, file in recorded.files.items():
        assert file.sha256 == hashlib.sha256(hub.files[name]).hexdigest()
        assert file.size == len(hub.files[name])


def test_large_files_are_recorded_without_being_fetched(manifest, hub):
    assert read(manifest).files[LARGE]
    assert not [name for name in hub.fetched if name.endswith(".safetensors")]
    assert "model_index.json" in hub.fetched


def test_a_manifest_is_not_written_over(weights, manifest):
    before = manifest.read_bytes()
    refused = weights("record", REPOSITORY, COMMIT, manifest, code=1)
    assert "there already" in refused.stderr
    assert manifest.read_bytes() == before


def test_a_branch_is_not_recorded_but_the_commit_it_is_at_is_told(weights, tmp_path):
    refused = weights("record", REPOSITORY, "main", tmp_path / "main.json", code=1)
    assert COMMIT in refused.stderr
    assert not (tmp_path / "main.json").exists()


def test_what_is_fetched_is_the_model_and_leaves_nothing_beside_it(fetched, manifest, hub):
    there = {str(path.relative_to(fetched)) for path in fetched.rglob("*") if path.is_file()}
    assert there == set(read(manifest).files)
    assert (fetched / LARGE).read_bytes() == hub.files[LARGE]


def test_a_hub_that_serves_other_bytes_is_refused(weights, manifest, hub, tmp_path):
    content = bytearray(hub.files[LARGE])
    content[-1] ^= 1
    hub.files[LARGE] = bytes(content)
    refused = weights("fetch", manifest, tmp_path / "model", code=1)
    assert f"{LARGE} has other bytes" in refused.stderr


def test_one_changed_byte_a_missing_and_a_surplus_file_are_all_named(fetched, manifest):
    check(manifest, fetched)
    with (fetched / LARGE).open("r+b") as file:
        file.seek(100)
        byte = file.read(1)[0]
        file.seek(100)
        file.write(bytes([byte ^ 1]))
    (fetched / "vae/config.json").unlink()
    (fetched / "text_encoder/extra.bin").write_bytes(b"")
    with pytest.raises(WeightsRefused) as refused:
        check(manifest, fetched)
    assert f"{LARGE} has other bytes" in str(refused.value)
    assert "vae/config.json is missing" in str(refused.value)
    assert "text_encoder/extra.bin is not in the manifest" in str(refused.value)


def test_the_command_line_says_the_same(fetched, manifest):
    program = "from services.cli.app import app; app()"
    promptreel = [sys.executable, "-c", program, "weights", "check", manifest]
    assert subprocess.run([*promptreel, fetched], check=False).returncode == 0
    (fetched / "vae/config.json").unlink()
    refused = subprocess.run([*promptreel, fetched], check=False, capture_output=True, text=True)
    assert refused.returncode == EXIT_USAGE
    assert "vae/config.json is missing" in refused.stderr


def test_without_a_manifest_one_is_told_how_to_make_it(weights, tmp_path):
    refused = weights("fetch", tmp_path / "none.json", tmp_path / "model", code=1)
    assert "promptreel weights record" in refused.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("commit", "main"), ("repository", "reel"), ("files", {}), ("surplus", 1)],
)
def test_a_manifest_that_says_less_or_more_is_none(manifest, key, value):
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), key: value}))
    with pytest.raises(WeightsRefused, match="not a manifest"):
        read(manifest)


def test_a_hub_that_is_not_there_is_named_in_one_line(weights, tmp_path):
    refused = weights("record", "studio/none", COMMIT, tmp_path / "none.json", code=1)
    assert "studio/none could not be asked" in refused.stderr
    assert "Traceback" not in refused.stderr
