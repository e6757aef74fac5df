"""`promptreel torture` as a person runs it, and whether it would notice."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journey.installation import PROMPTREEL

ROOT = Path(__file__).parents[2]

# Each worker is stopped with everything uploaded; the first comes back while the other has its job.
FENCE_DRILL = '''
import json, signal, sys
from pathlib import Path
import httpx
from services.cli.service import free_port
from services.torture.cluster import send, wait_until
from services.torture.plan import WORKERS, Action, Plan, Point
from services.torture.setting import Place, set_up

def is_stopped(member):
    return any(process.status() == "stopped" for process in member.server())

def go_on(member):
    for process in member.server():
        send(process, signal.SIGCONT)

def act_late(setting):
    """None if nobody could take the job over: one can be stopped in the middle of a write."""
    workers = [setting.cluster.members[name] for name in WORKERS]
    for worker in workers:
        worker.wires.arm(Point.UPLOADED, Action.STOP)
    job_id = httpx.post(
        place.url + "/v1/jobs",
        json={"prompt": "steady clip"},
        headers={"Authorization": "Bearer " + setting.key},
    ).json()["id"]
    assert wait_until(lambda: any(map(is_stopped, workers)), seconds=30)
    first, other = sorted(workers, key=is_stopped, reverse=True)
    taken_over = wait_until(lambda: is_stopped(other), seconds=15)
    go_on(first)
    wait_until(first.wires.breaches, seconds=2)  # time enough to do harm
    other.wires.disarm(Point.UPLOADED)
    go_on(other)
    ended = lambda: setting.wiring.store.get(job_id).status.is_terminal
    assert wait_until(ended, seconds=60)
    return [breach for worker in workers for breach in worker.wires.breaches()] if taken_over else None

folder = Path(sys.argv[1])
folder.mkdir()
place = Place(folder=folder, port=free_port("127.0.0.1"), in_cloud=False, real_model_dir=None)
skew = dict.fromkeys(WORKERS, 0.0)
plan = Plan(faults=[], clock_skew_seconds=skew, calm_seconds=0, seconds=0)
with set_up(place, plan) as setting:
    while (breaches := act_late(setting)) is None:
        pass
    print(json.dumps(breaches))
'''


def torture(*arguments, folder) -> subprocess.CompletedProcess:
    return subprocess.run(
        [PROMPTREEL, "torture", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.timeout(
    600
)  # most of a minute; but on the emulator a retry may wait for one, five times
@pytest.mark.parametrize("profile", ["configured", "gcp-emulators"])
def test_a_short_torture_holds_every_invariant_and_leaves_nothing(tmp_path, profile, request):
    if profile == "gcp-emulators":
        request.getfixturevalue("pubsub_emulator_host")  # skips where there are none
    done = torture("--seed", "11", "--minutes", "0.3", "--profile", profile, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 11" in done.stderr
    assert "every invariant held" in done.stderr
    assert "0 lost, 0 doubled" in done.stderr
    jobs = re.search(r"(\d+) jobs \(.*\) in (\d+) attempts", done.stderr)
    assert int(jobs[1]) > 5
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine").write_text("precious")
    done = torture("--keep", str(tmp_path), folder=tmp_path)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.fixture
def house(tmp_path) -> Path:
    """A copy of the program, to be broken."""
    for package in ("services", "shared"):
        shutil.copytree(
            ROOT / package, tmp_path / "house" / package, ignore=shutil.ignore_patterns("*.pyc")
        )
    return tmp_path / "house"


def drill(house: Path, folder: Path) -> list[str]:
    """What a worker did to the job that another had by then."""
    done = subprocess.run(
        [sys.executable, "-c", FENCE_DRILL, folder],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_finds_that_a_fence_was_removed(house, tmp_path):
    assert drill(house, tmp_path / "whole") == []
    rules = house / "shared" / "transitions.py"
    fence = " or job.lease.token != token"
    assert fence in rules.read_text()
    rules.write_text(rules.read_text().replace(fence, ""))
    (breach,) = drill(house, tmp_path / "broken")
    assert "attempt 2" in breach
