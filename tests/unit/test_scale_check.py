"""What is compared with a real installation, tried on one whose answers are known."""

import httpx
import pytest
from scale import check

PACE = 2.0  # seconds a job keeps the device
TAIL = 0.5
CLAIM = 0.1


class OneWorker:
    """An API before one worker that takes exactly as long each time; its clock is what it is told."""

    def __init__(self):
        self.jobs = {}
        self.free_at = 0.0
        self.now = 1_000_000.0

    def __call__(self, request):
        if request.method == "POST":
            return self._submit()
        return httpx.Response(200, json=self.jobs[request.url.path.rsplit("/", 1)[1]])

    def _submit(self):
        started = max(self.now + CLAIM, self.free_at)
        self.free_at = started + PACE
        job_id = f"job_{len(self.jobs)}"
        self.jobs[job_id] = {
            "id": job_id,
            "status": "finished",
            "created_at": at(self.now),
            "started_at": at(started),
            "finished_at": at(started + PACE + TAIL),
        }
        return httpx.Response(202, json=self.jobs[job_id])


def at(moment):
    return check.datetime.fromtimestamp(
        moment, tz=check.datetime.now().astimezone().tzinfo
    ).isoformat()


@pytest.fixture
def worker():
    return OneWorker()


@pytest.fixture
def caller(worker):
    with httpx.Client(base_url="http://test", transport=httpx.MockTransport(worker)) as http:
        yield check.Caller(http)


def jobs_at(worker, caller, moments):
    seen = []
    for moment in moments:
        worker.now = 1_000_000.0 + moment
        seen.append(caller.moments(caller.submit()))
    return seen


def test_a_worker_that_takes_as_long_each_time_is_predicted_exactly(worker, caller):
    seen = jobs_at(worker, caller, [0.0, 1.0, 5.0, 5.5, 6.0, 20.0])
    told = check.Measured(claim_seconds=CLAIM, device_seconds=[PACE], tail_seconds=TAIL)

    found = check.compare(seen, told, seed=1)

    assert found["jobs"] == 6
    for pair in found["compared"].values():
        assert pair["simulated"] == pytest.approx(
            pair["measured"], abs=0.11
        )  # a claim, once or not


def test_a_worker_that_is_slower_than_it_was_told_to_be_is_seen_to_be(worker, caller):
    seen = jobs_at(worker, caller, [0.0, 1.0, 2.0, 3.0])
    told = check.Measured(claim_seconds=CLAIM, device_seconds=[PACE / 2], tail_seconds=TAIL)
    assert check.compare(seen, told, seed=1)["mean_total_error"] < -0.3
