import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from services.torture.plan import Action, Point
from services.torture.tripwires import Tripwires, wire_with_tripwires
from shared.config import Config
from shared.submission import Submission

ROOT = Path(__file__).parents[2]
SUBMIT = """
import sys
from pathlib import Path
from shared.config import Config
from shared.submission import Submission
from services.torture.tripwires import wire_with_tripwires

folder = Path(sys.argv[1])
wiring = wire_with_tripwires(Config(data_dir=folder / "state"), folder=folder / "trips")
ask = {"prompt": "a lighthouse"}
wiring.lifecycle.submit(Submission(owner="ada", request_id="r1", body=ask, **ask))
"""


@pytest.fixture
def wires(tmp_path):
    return Tripwires(tmp_path / "trips")


@pytest.fixture
def wiring(tmp_path):
    wired = wire_with_tripwires(Config(data_dir=tmp_path / "state"), folder=tmp_path / "trips")
    yield wired
    wired.close()


def submit_in_a_process(folder) -> int:
    return subprocess.run([sys.executable, "-c", SUBMIT, folder], cwd=ROOT, check=False).returncode


def submit(wiring):
    ask = {"prompt": "a lighthouse"}
    return wiring.lifecycle.submit(Submission(owner="ada", request_id="r1", body=ask, **ask))


def test_an_armed_point_ends_the_process_once(wires, wiring, tmp_path):
    wires.arm(Point.ADMITTED, Action.KILL)
    assert submit_in_a_process(tmp_path) == -signal.SIGKILL
    assert wires.has_fired(Point.ADMITTED)
    assert not wires.has_fired(Point.ADMITTED)
    (job,) = wiring.store.list("ada", kind="video", limit=10).jobs
    assert job.published_at is None
    assert submit_in_a_process(tmp_path) == 0


def test_after_the_publish_the_message_is_out_and_the_job_does_not_know(wires, wiring, tmp_path):
    wires.arm(Point.PUBLISHED, Action.KILL)
    assert submit_in_a_process(tmp_path) == -signal.SIGKILL
    (job,) = wiring.store.list("ada", kind="video", limit=10).jobs
    assert job.published_at is None
    assert wiring.queue.receive(["render-gpu"], wait_seconds=0).message.job_id == job.id


def test_a_disarmed_point_does_nothing(wires, tmp_path):
    wires.arm(Point.ADMITTED, Action.KILL)
    assert wires.disarm(Point.ADMITTED)
    assert not wires.disarm(Point.ADMITTED)
    assert submit_in_a_process(tmp_path) == 0
    assert not wires.has_fired(Point.ADMITTED)


def test_a_process_asked_to_end_at_a_point_may_end_in_order(wires):
    asked = []
    before = signal.signal(signal.SIGTERM, lambda *_: asked.append(os.getpid()))
    try:
        wires.arm(Point.CLAIMED, Action.TERMINATE)
        wires.reach(Point.CLAIMED)
        wires.reach(Point.CLAIMED)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == [os.getpid()]


def test_a_worker_that_acts_on_its_own_job_is_not_noted(wires, wiring):
    job = submit(wiring)
    token = wiring.lifecycle.claim(job.id, worker="w1").lease.token
    wiring.lifecycle.heartbeat(job.id, token=token)
    wiring.lifecycle.release(job.id, token=token)
    wiring.lifecycle.claim(job.id, worker="w2")
    assert wires.breaches() == []


def test_who_claims_a_canceled_job_of_a_silent_worker_may_end_it(wires, wiring):
    job = submit(wiring)
    wiring.lifecycle.claim(job.id, worker="w1")
    wiring.lifecycle.cancel(job.id, owner=job.owner)
    an_hour_later = wiring.lifecycle.now() + timedelta(hours=1)
    later = replace(wiring.lifecycle, now=lambda: an_hour_later)
    assert later.claim(job.id, worker="w2").status == "canceled"
    assert wires.breaches() == []


def test_what_a_worker_may_do_to_anothers_job_without_the_fence_is_noted(wires, wiring):
    job = submit(wiring)
    wiring.lifecycle.claim(job.id, worker="w1")

    def act_unfenced(stored, *, token):
        assert token != stored.lease.token
        return replace(stored, progress=99)

    wiring.store.update(job.id, partial(act_unfenced, token="stale"))
    assert wires.breaches() == [f"{job.id}, attempt 1"]


def test_a_clock_that_goes_wrong_is_the_workers_only(tmp_path, wiring):
    ahead = wire_with_tripwires(
        Config(data_dir=tmp_path / "state"), folder=tmp_path / "trips", clock_skew_seconds=3600
    )
    try:
        assert (ahead.lifecycle.now() - wiring.lifecycle.now()).total_seconds() > 3590
    finally:
        ahead.close()
