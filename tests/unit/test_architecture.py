"""The import rule is proven by import-linter; here it is shown that it would notice."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED_OF_GOOGLE = ("google.genai", "google.auth.exceptions.", "google.oauth2.service_account.")
ALLOWED_OF_CLOUD_STORAGE = (
    "google.api_core.exceptions.",
    "google.auth.exceptions.",
    "google.cloud.storage",
)
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint(folder):
    return subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def house(tmp_path):
    """A copy of the house, to be built wrongly."""
    for name in ("shared", "services", "training"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_house_as_it_is_keeps_the_rule(house):
    done = lint(house)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("shared/job.py", "import shared.lifecycle"),
        ("shared/errors.py", "import shared.schemas"),
        ("shared/schemas.py", "import shared.client"),
        ("shared/client/server.py", "import shared.config"),
        ("shared/lifecycle.py", "import shared.adapters.local.sqlite_jobs"),
        ("services/api/app.py", "import services.gpu_worker.consumer"),
        ("services/gpu_worker/consumer.py", "import services.api.app"),
        ("services/gpu_worker/supervisor.py", "import torch"),
        ("services/gpu_worker/backends/wan.py", "import training.judge"),
        ("services/api/routes/jobs.py", "import diffusers"),
        ("services/gpu_worker/pull.py", "import services.gpu_worker.engine.wan"),
        ("shared/lifecycle.py", "import google.cloud.firestore"),
        ("services/gpu_worker/pull.py", "import google.genai"),
        ("services/gpu_worker/pipeline/run.py", "from google import genai"),
        ("services/gpu_worker/backends/wan.py", "from google.genai import types"),
        ("services/gpu_worker/backends/veo3.py", "from google.cloud import storage"),
        ("services/api/app.py", "from google import genai"),
        ("shared/adapters/vertex/retries.py", "from google.genai import types"),
        ("shared/adapters/vertex/gemini.py", "import services.gpu_worker.protocol"),
    ],
)
def test_a_forbidden_import_is_noticed(house, file, line):
    path = house / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(house)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout


def test_what_speaks_to_vertex_ai_knows_no_other_part_of_google():
    """Import-linter lets these modules import google, of which it knows the first name only."""
    known = {}
    folders = ("services/gpu_worker", "shared/adapters/vertex")
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            google = {name for name in names if name.split(".")[0] == "google"}
            known.setdefault(file.stem, set()).update(google)
    for_clips = known.pop("clip_storage")
    others = set().union(*known.values())
    assert for_clips == {name for name in for_clips if name.startswith(ALLOWED_OF_CLOUD_STORAGE)}
    assert others == {name for name in others if name.startswith(ALLOWED_OF_GOOGLE)}
    assert for_clips
    assert others
