"""What Promptreel is installed with: pinned, on terms that are allowed, and asked about honestly."""

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def licences():
    spec = spec_from_file_location("licences", ROOT / "docs" / "licences.py")
    module = module_from_spec(spec)
    sys.modules["licences"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["licences"]


def test_what_is_not_pinned_or_not_allowed_is_refused(licences):
    good = licences.Package("flask", "3.1.3", "BSD-3-Clause")
    for package, said in (
        (licences.Package("flask", "3.1.2", "BSD-3-Clause"), "flask 3.1.2 is not what constraints"),
        (licences.Package("leftpad", "1.0", "MIT"), "leftpad 1.0 is not what constraints"),
    ):
        (problem,) = licences.unpinned([good, package])
        assert said in problem
    for licence in ("AGPL-3.0-only", "unknown", "MIT AND GPL-2.0-only", "GPL-3.0-only"):
        package = licences.Package("flask", "3.1.3", licence)
        assert list(licences.disallowed([good, package])), licence
    for licence in ("MIT OR GPL-2.0-only", "Apache-2.0 AND BSD-2-Clause"):
        assert not list(licences.disallowed([licences.Package("flask", "3.1.3", licence)])), licence


def test_a_package_that_is_only_run_may_be_under_its_own_terms_and_no_other(licences):
    assert not list(licences.disallowed([licences.Package("pyte", "1", "LGPL-3.0-only")]))
    assert list(licences.disallowed([licences.Package("pyte", "1", "AGPL-3.0-only")]))


# --- make audit


def audit(tmp_path, dependencies):
    """With a pip-audit that says what it is told to."""
    (tmp_path / "said.json").write_text(json.dumps({"dependencies": dependencies}))
    tool = tmp_path / "pip-audit"
    write = f'while [ "$1" != --output ]; do shift; done; cp {tmp_path}/said.json "$2"'
    tool.write_text(f"#!/bin/sh\n{write if dependencies is not None else 'exit 1'}\n")
    tool.chmod(0o755)
    return subprocess.run(
        [ROOT / "deploy" / "audit.sh", tool],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


FINE = {"name": "a", "version": "1", "vulns": []}
UNSAFE = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
NOT_FOUND = {"name": "c", "skip_reason": "not found"}


def test_versions_that_nothing_is_known_against_pass(tmp_path):
    done = audit(tmp_path, [FINE])
    assert (done.returncode, done.stdout) == (0, "1 of 1 packages were checked.\n")


def test_a_version_that_something_is_known_against_is_named_with_what_mends_it(tmp_path):
    done = audit(tmp_path, [FINE, UNSAFE])
    assert done.returncode == 1
    assert "b 2: CVE-1, mended in 3" in done.stdout


@pytest.mark.parametrize("dependencies", [None, [], [NOT_FOUND]])
def test_what_could_not_be_asked_for_is_not_called_a_success(tmp_path, dependencies):
    done = audit(tmp_path, dependencies)
    assert done.returncode == 1
    assert "Nothing was checked" in done.stderr


def test_a_package_that_could_not_be_asked_for_among_others_is_noticed(tmp_path):
    done = audit(tmp_path, [FINE, NOT_FOUND])
    assert done.returncode == 1
    assert "1 of 2" in done.stdout
