"""What tries a release, tried on an installation of this machine."""

import os
import subprocess
import sys

import pytest

from tests.dockerfiles import ROOT
from tests.journey.installation import wait_for


@pytest.fixture
def smoke_test(promptreel, tmp_path):
    def run(*arguments, code, **environment):
        """The program, with no other environment than a build gives it."""
        here = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PROMPTREEL_URL": promptreel.url,
            "PROMPTREEL_API_KEY": promptreel.key,
        }
        program = [sys.executable, ROOT / "deploy/smoke_test.py"]
        done = subprocess.run(
            [*program, "--passed", tmp_path / "passed", *arguments],
            env={name: value for name, value in {**here, **environment}.items() if value},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert (tmp_path / "passed").exists() == (code == 0)
        return done

    return run


def test_a_release_that_makes_a_video_passes(smoke_test, client):
    said = smoke_test(code=0).stdout
    job_id = said.split()[1]
    assert client.get(f"/v1/jobs/{job_id}").json()["status"] == "finished"
    assert "fetched" in said


def test_one_that_takes_too_long_does_not_and_its_job_does_not_go_on(smoke_test, client):
    done = smoke_test("--seconds", "0.2", code=1)
    assert "no video within 0.2 s" in done.stderr
    wait_for(client, done.stdout.split()[1], "canceled")


def test_one_that_does_not_know_its_key_or_is_not_there_does_not(smoke_test):
    refused = smoke_test(code=1, PROMPTREEL_API_KEY="pr_0badcafe_" + "s" * 43)
    assert "Traceback" not in refused.stderr
    smoke_test(code=2, PROMPTREEL_API_KEY="")
