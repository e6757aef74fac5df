"""kill -9 at the worst moment: no job lost, none rendered twice into a result."""

import time

import psutil
import pytest

from tests.journey.installation import wait_for


@pytest.fixture
def running(installation):
    # A render long enough to be killed in its middle.
    installation.config["render"] = {"duration_seconds": 3, "resolution": "240p"}
    # Longer than anybody here waits: a job comes back because its worker is known to be dead.
    installation.config.setdefault("worker", {})["lease_seconds"] = 600
    with installation.running():
        yield installation


def begin(client):
    job_id = client.post("/v1/jobs", json={"prompt": "a kill in the middle"}).json()["id"]
    wait_for(client, job_id, "progress")
    return job_id


def results_of(installation, job_id):
    return sorted(path.name for path in (installation.folder / "state").rglob(f"{job_id}/*.*"))


RESULTS = ["final_video.mp4", "poster.jpg", "spritesheet.jpg"]


def test_a_killed_worker_comes_back_and_the_job_finishes_once(running):
    with running.client() as client:
        job_id = begin(client)
        worker = running.process("services.gpu_worker.pull")
        children = worker.children(recursive=True)
        worker.kill()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive, "the render process outlived its worker"
        job = wait_for(client, job_id, "finished", "failed")
        assert job["status"] == "finished"
        log = "\n".join(client.get(f"/v1/jobs/{job_id}/logs").json()["lines"])
        assert "attempt 2 of 3" in log
        assert log.count("finished in") == 1
    assert results_of(running, job_id) == RESULTS
    assert not list((running.folder / "state" / "work").glob(f"*/{job_id}"))


def test_a_killed_render_process_costs_one_attempt(running):
    with running.client() as client:
        job_id = begin(client)
        running.process("services.gpu_worker.render_process").kill()
        job = wait_for(client, job_id, "finished", "failed")
        assert job["status"] == "finished"
        log = "\n".join(client.get(f"/v1/jobs/{job_id}/logs").json()["lines"])
        assert "attempt 2 of 3" in log
    assert results_of(running, job_id) == RESULTS


def test_a_killed_api_comes_back_and_the_job_finishes_once(running):
    with running.client() as client:
        job_id = begin(client)
        running.process("services.api.main").kill()
        job = wait_after_restart(running, job_id)
        assert job["status"] == "finished"
        log = "\n".join(client.get(f"/v1/jobs/{job_id}/logs").json()["lines"])
        assert log.count("finished in") == 1
        assert "attempt 2" not in log
    assert results_of(running, job_id) == RESULTS


def test_killed_as_a_whole_and_started_again_it_finishes_what_it_began(installation):
    installation.config["render"] = {"duration_seconds": 3, "resolution": "240p"}
    with installation.running(), installation.client() as client:
        job_id = begin(client)
        installation.cut_the_power()
    with installation.running(), installation.client() as client:
        job = wait_for(client, job_id, "finished", "failed")
        assert job["status"] == "finished"
    assert results_of(installation, job_id) == RESULTS


def wait_after_restart(installation, job_id):
    deadline = time.monotonic() + 60
    while True:
        try:
            with installation.client() as client:
                return wait_for(client, job_id, "finished", "failed")
        except Exception:  # noqa: BLE001 - nothing answers until the API is back
            assert time.monotonic() < deadline
            time.sleep(0.1)
