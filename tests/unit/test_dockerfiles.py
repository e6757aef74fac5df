"""What is built, and by what: the Dockerfiles and cloudbuild.yaml."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from pathspec import GitIgnoreSpec

from tests.dockerfiles import (
    API,
    DOCKERFILES,
    GPU_WORKER,
    REMOTE_WORKER,
    ROOT,
    STATE,
    Dockerfile,
)

dockerfiles = pytest.mark.parametrize("file", DOCKERFILES.values(), ids=DOCKERFILES.keys())
services = pytest.mark.parametrize(
    "image", [API, GPU_WORKER, REMOTE_WORKER], ids=["api", "gpu-worker", "remote-worker"]
)


@dockerfiles
def test_everything_that_is_copied_is_there_and_goes_into_the_build(file):
    ignored = GitIgnoreSpec.from_lines((ROOT / ".dockerignore").read_text().splitlines())
    for source in Dockerfile(file).copied:
        path = ROOT / source
        assert path.exists(), source
        inside = [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.txt")]
        for each in inside:
            assert not ignored.match_file(each.relative_to(ROOT)), each


def test_nothing_else_goes_into_a_build():
    ignored = GitIgnoreSpec.from_lines((ROOT / ".dockerignore").read_text().splitlines())
    for name in (
        ".git/config",
        ".env",
        "README.md",
        ".promptreel/keys.json",
        "models/x",
        "tests/x.py",
    ):
        assert ignored.match_file(name), name
    assert ignored.match_file("shared/__pycache__/job.cpython-311.pyc")


@services
def test_the_packages_that_are_named_are_ours_to_name(image):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert image.extras <= project["optional-dependencies"].keys()
    assert image.labels["org.opencontainers.image.licenses"] == project["license"]


@dockerfiles
def test_every_base_is_a_version_and_it_is_the_one_that_is_tested(file):
    for base in Dockerfile(file).bases:
        _, _, tag = base.partition(":")
        assert re.match(r"\d+\.\d+\.\d+-", tag), base
    constraints = (ROOT / "constraints.txt").read_text()
    for name, version in re.findall(r"(pytorch)/pytorch:([\d.]+)", file.read_text()):
        assert f"\n{name.removeprefix('py')}=={version}\n" in constraints


def test_the_build_uses_no_image_by_a_name_that_moves():
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())
    substitutions = build["substitutions"]
    for step in build["steps"]:
        name = re.sub(r"\$\{(\w+)\}", lambda found: substitutions[found[1]], step["name"])
        assert re.search(r":v?\d+\.\d+\.\d+(-\w+)*$", name), name


def test_the_build_uses_every_substitution_and_no_other():
    text = (ROOT / "cloudbuild.yaml").read_text()
    used = set(re.findall(r"\$\{?(_[A-Z]+(?:_[A-Z]+)*)", text))
    assert used == set(yaml.safe_load(text)["substitutions"])


def test_every_step_of_the_build_waits_for_one_before_it_and_runs_what_is_there():
    seen = set()
    for step in yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())["steps"]:
        assert set(step.get("waitFor", [])) <= seen
        seen.add(step["id"])
        for script in re.findall(r"deploy/\w+\.\w+", str(step)):
            if not script.startswith("deploy/weights"):
                assert os.access(ROOT / script, os.X_OK) or script.endswith(".py"), script


@services
def test_a_service_is_nobody_in_particular_and_says_where_it_listens(image):
    assert image.user == "10001:10001"
    assert image.port == int(image.environment["PORT"])
    assert image.environment["HOME"] == image.environment["TMPDIR"] == STATE


def test_the_weights_need_nothing_of_ours_but_their_own_file(tmp_path):
    stage = Dockerfile(DOCKERFILES["gpu_worker"]).stages["weights"]
    ours = [step.words for step in stage if step.instruction == "COPY"]
    assert ["services/gpu_worker/weights.py", "./"] in ours
    (tmp_path / "weights.py").write_bytes((ROOT / "services/gpu_worker/weights.py").read_bytes())
    command = [sys.executable, "-P", tmp_path / "weights.py", "fetch", "none.json", "model"]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "There is no manifest none.json" in done.stderr
