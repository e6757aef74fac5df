"""A snapshot renders what its model renders, and is refused wherever it was not made for."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from services.cli.app import app
from services.gpu_worker.backends import wan
from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine import packages
from services.gpu_worker.engine.bake import bake
from services.gpu_worker.engine.manifest import MANIFEST, WEIGHTS, SnapshotRefused, read_manifest
from services.gpu_worker.engine.weights_file import WeightsFile
from services.gpu_worker.protocol import Load
from shared.catalog import Size, find_model
from shared.errors import ConfigurationError, ModelUnavailable

# The demo model at a size that is compiled and rendered in no time.
MODEL = replace(find_model("wan2.1-demo"), native_size=Size(96, 64), negative_prompt="snow")
SEGMENT = Segment(
    prompt="a red circle moves left",
    negative_prompt="snow",
    seed=3,
    frames=17,
    size=MODEL.native_size,
    steps=2,
    guidance_scale=5.0,
    flow_shift=3.0,
)
UNGUIDED = replace(SEGMENT, guidance_scale=1.0)
# Compiled code adds up in another order: one level of 255, in less than one number of a thousand.
TOLERANCE_LEVELS, TOLERANCE_SHARE = 1, 1e-3

HAS_COMPILER = shutil.which(os.environ.get("CXX", "g++")) is not None


class Quiet:
    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        pass


def _load(model_dir, snapshot_dir, warnings=None, **changes):
    order = Load(
        model=MODEL.name,
        model_dir=model_dir,
        snapshot_dir=snapshot_dir,
        **({"device": "cpu", "dtype": "auto"} | changes),
    )
    return wan.load(MODEL, order, warn=warnings.append if warnings is not None else pytest.fail)


@pytest.fixture(scope="module")
def model_dir(demo_model_dir, tmp_path_factory):
    """Apart from the others' model: here it is changed and removed."""
    directory = tmp_path_factory.mktemp("model") / "demo"
    shutil.copytree(demo_model_dir, directory)
    return directory


@pytest.fixture(scope="module")
def baked(model_dir, tmp_path_factory):
    directory = tmp_path_factory.mktemp("snapshots") / "plain"
    bake(MODEL, model_dir, directory, compiles=False)
    return directory


@pytest.fixture
def snapshot(baked, tmp_path):
    """One to be damaged."""
    shutil.copytree(baked, tmp_path / "snapshot")
    return tmp_path / "snapshot"


@pytest.fixture(scope="module")
def expected(model_dir):
    return _load(model_dir, None).render(SEGMENT, Quiet())


def _change_manifest(snapshot, **changes):
    manifest = json.loads((snapshot / MANIFEST).read_text())
    (snapshot / MANIFEST).write_text(json.dumps(manifest | changes))


def test_a_snapshot_renders_the_very_bytes_of_its_model(model_dir, baked, expected):
    frames = _load(model_dir, baked).render(SEGMENT, Quiet())

    assert np.array_equal(frames, expected)


def test_a_snapshot_needs_its_model_no_more(tmp_path, baked, expected):
    frames = _load(tmp_path / "gone", baked).render(SEGMENT, Quiet())

    assert np.array_equal(frames, expected)


def test_the_negative_prompt_is_not_read_again(baked, tmp_path, monkeypatch):
    loaded = _load(tmp_path / "gone", baked)
    read = []
    encoder = loaded._renderer._text._encoder
    encoder.register_forward_hook(lambda *_: read.append("a text"))

    loaded.render(SEGMENT, Quiet())

    assert read == ["a text"]  # the prompt


@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler to compile the model with")
@pytest.mark.timeout(600)
def test_compiled_parts_render_what_the_model_renders(model_dir, tmp_path, monkeypatch):
    bake(MODEL, model_dir, tmp_path / "compiled", is_worth_it=lambda _: True)
    calls = {}
    load_package = packages.load_package

    def counting(file):
        run = load_package(file)

        def counted(tensors):
            calls[file.stem] = calls.get(file.stem, 0) + 1
            return run(tensors)

        return counted

    monkeypatch.setattr("services.gpu_worker.engine.snapshot.load_package", counting)
    loaded = _load(model_dir, tmp_path / "compiled")
    plain = _load(model_dir, None)

    longer = replace(UNGUIDED, frames=33)  # one package for any number of frames
    worded = replace(UNGUIDED, prompt="a blue square turns slowly over a grey floor")
    for segment in (UNGUIDED, longer, worded):
        frames, wanted = loaded.render(segment, Quiet()), plain.render(segment, Quiet())
        levels = np.abs(frames.astype(int) - wanted.astype(int))
        assert levels.max() <= TOLERANCE_LEVELS
        assert (levels > 0).mean() < TOLERANCE_SHARE
        assert np.array_equal(loaded.render(segment, Quiet()), frames)
    blocks = 2
    assert calls["block"] == 2 * 3 * UNGUIDED.steps * blocks
    # Pieces of two latent frames: all but the first, and the one that fills the memory.
    assert calls["piece"] == 2 * (1 + 3 + 1)
    # What it was not compiled for, both prompts in one pass, goes to the model's own code.
    assert loaded.render(SEGMENT, Quiet()).shape == (17, 64, 96, 3)
    assert calls["block"] == 2 * 3 * UNGUIDED.steps * blocks


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 99}, "made by another version of Promptreel"),
        ({"torch": "1.0.0"}, f"made with torch 1.0.0, not {torch.__version__}"),
        ({"cuda": "12.8"}, "made with torch"),
        ({"device": "cuda", "architecture": "sm_89"}, "made for cuda, not for cpu"),
        ({"architecture": "x86_64 avx1024"}, r"another architecture"),
        ({"dtype": "bfloat16"}, "made in bfloat16, not in float32"),
        ({"source": {"transformer/config.json": 1}}, "the model it was made from has changed"),
        ({"source": {"text_encoder/more": 1}}, "the model it was made from has changed"),
        ({"surprise": 1}, "its manifest is not one of this version"),
    ],
)
def test_a_snapshot_made_for_something_else_is_refused_and_the_model_renders(
    model_dir, snapshot, expected, changes, reason
):
    _change_manifest(snapshot, **changes)
    warnings = []

    loaded = _load(model_dir, snapshot, warnings, dtype="float32")

    (warning,) = warnings
    assert reason in warning
    assert "`promptreel bake`" in warning
    assert str(snapshot) not in warning
    assert np.array_equal(loaded.render(SEGMENT, Quiet()), expected)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        *((file, "gone") for file in (WEIGHTS, "tokenizer.json", MANIFEST)),
        *((file, "cut short") for file in (WEIGHTS, "tokenizer.json", MANIFEST)),
        # Garbled weights are numbers, too: start-up has no time for what their digest says.
        *((file, "garbled") for file in ("tokenizer.json", MANIFEST)),
    ],
)
def test_a_damaged_snapshot_is_refused_and_the_model_renders(
    model_dir, snapshot, expected, file, damage
):
    path = snapshot / file
    size = path.stat().st_size
    if damage == "gone":
        path.unlink()
    elif damage == "cut short":
        os.truncate(path, size // 2)
    else:
        path.write_bytes(b"\xff" * size)
    warnings = []

    loaded = _load(model_dir, snapshot, warnings)

    assert len(warnings) == 1
    assert np.array_equal(loaded.render(SEGMENT, Quiet()), expected)


def test_without_snapshot_and_model_it_says_how_to_get_one(tmp_path):
    warnings = []

    with pytest.raises(ModelUnavailable, match="make-demo-model"):
        _load(tmp_path / "no model", tmp_path / "no snapshot", warnings)

    assert "there is no snapshot" in warnings[0]


def test_without_a_compiler_a_snapshot_is_baked_of_the_model_s_own_code(
    model_dir, tmp_path, expected, monkeypatch
):
    monkeypatch.setenv("CXX", "/nonexistent")
    promptreel = Path(sys.executable).with_name("promptreel")

    baked = subprocess.run(
        [promptreel, "bake", model_dir, tmp_path / "snapshot"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert baked.stderr.count("could not be compiled: InvalidCxxCompiler") == 2
    frames = _load(model_dir, tmp_path / "snapshot").render(SEGMENT, Quiet())
    assert np.array_equal(frames, expected)


def test_baking_anew_replaces_the_old_snapshot(model_dir, snapshot):
    _change_manifest(snapshot, torch="1.0.0")

    bake(MODEL, model_dir, snapshot, compiles=False)

    assert read_manifest(snapshot).torch == torch.__version__
    assert list(snapshot.parent.iterdir()) == [snapshot]


def test_baking_never_touches_what_is_no_snapshot(model_dir, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(ConfigurationError, match="something else than a snapshot"):
        bake(MODEL, model_dir, tmp_path, compiles=False)

    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_bake_that_fails_leaves_the_old_snapshot(model_dir, snapshot, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("services.gpu_worker.engine.bake._write_manifest", fail)
    before = (snapshot / MANIFEST).read_bytes()

    with pytest.raises(OSError, match="no space"):
        bake(MODEL, model_dir, snapshot, compiles=False)

    assert (snapshot / MANIFEST).read_bytes() == before
    assert list(snapshot.parent.iterdir()) == [snapshot]


def test_a_snapshot_can_be_checked_against_its_digests(snapshot):
    whole = CliRunner().invoke(app, ["verify-snapshot", str(snapshot)])
    weights = bytearray((snapshot / WEIGHTS).read_bytes())
    weights[1000] ^= 1
    (snapshot / WEIGHTS).write_bytes(weights)
    damaged = CliRunner().invoke(app, ["verify-snapshot", str(snapshot)])

    assert whole.exit_code == 0
    assert damaged.exit_code == 2
    assert f"its {WEIGHTS} is damaged" in damaged.output


def test_every_tensor_begins_where_compiled_code_expects_it(baked):
    assert all(entry.offset % 64 == 0 for entry in read_manifest(baked).tensors.values())


def test_a_large_file_is_read_whole_whichever_way(tmp_path):
    content = np.random.default_rng(0).bytes(40 * 2**20 + 17)
    (tmp_path / "large").write_bytes(content)

    pieces = {}
    with WeightsFile(tmp_path / "large", len(content)) as file:
        memory = file.map()
        file.read_into(lambda start, piece: pieces.update({start: bytes(piece)}))

    assert bytes(memory) == content
    assert b"".join(pieces[start] for start in sorted(pieces)) == content


def test_a_file_that_ends_too_early_is_noticed(tmp_path):
    (tmp_path / "short").write_bytes(b"abc")

    with WeightsFile(tmp_path / "short", 4) as file:
        with pytest.raises(OSError, match="shorter"):
            file.map()
        with pytest.raises(OSError, match="shorter"):
            file.read_into(lambda _start, _piece: None)


_START = """
import sys

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError("the network is cut off")

sys.addaudithook(no_network)
import json
from pathlib import Path
from typer.testing import CliRunner

from services.cli.app import app
from services.gpu_worker.backends import wan
from services.gpu_worker.engine.weights_file import WeightsFile
from services.gpu_worker.protocol import Load
from shared.catalog import find_model

order = Load(
    model="wan2.1-demo", model_dir=Path(sys.argv[1]), snapshot_dir=Path(sys.argv[2]),
    device="cpu", dtype="auto",
)
wan.load(find_model("wan2.1-demo"), order, warn=sys.exit)
heavy = ("diffusers", "transformers", "torch._dynamo", "torch._inductor.codecache", "triton")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


def test_a_start_imports_no_library_that_takes_seconds_and_needs_no_network(baked, model_dir):
    done = subprocess.run(
        [sys.executable, "-c", _START, model_dir, baked],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )

    assert json.loads(done.stdout) == []


def test_a_refusal_reads_as_the_end_of_a_sentence(tmp_path):
    with pytest.raises(SnapshotRefused, match=r"^there is no snapshot$"):
        read_manifest(tmp_path)
