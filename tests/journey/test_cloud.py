"""The same jobs as in the cloud: Firestore, Pub/Sub and Cloud Storage, over the wire to emulators."""

import time
from contextlib import ExitStack

import httpx
import psutil
import pytest

from tests.journey.cloud_installation import in_the_cloud, stored_files, wait_for_workers
from tests.journey.installation import (
    free_port,
    log_of,
    running_program,
    running_worker,
    submit,
    wait_for,
)

RESULTS = ["final_video.mp4", "poster.jpg", "spritesheet.jpg"]

pytestmark = pytest.mark.usefixtures("pubsub_emulator_host")  # skips where there are none


def test_up_on_the_emulators_gives_a_person_the_same(installation):
    with installation.running("--profile", "gcp-emulators"), installation.client() as client:
        job_id = submit(client, "a red circle")
        job = wait_for(client, job_id, "finished", "failed")
        assert job["status"] == "finished"
        month = job["created_at"][:7]
        uri = f"gs://promptreel/videos/{month}/{job_id}/final_video.mp4"
        assert job["gcs_uri"] == uri
        link = client.get(f"/v1/jobs/{job_id}/artifact").json()
        assert link["gcs_uri"] == uri
        video = httpx.get(link["url"])
        assert video.headers["content-type"] == "video/mp4"
        assert video.content[4:8] == b"ftyp"
        assert httpx.get(link["url"].replace("X-Goog-Expires=3600", "X-Goog-Expires=9999")).is_error


def test_a_running_job_is_canceled_as_on_one_machine(installation):
    installation.config["render"] = {"duration_seconds": 5}
    with (
        in_the_cloud(installation) as (client, cloud),
        running_worker(cloud.config_file, **cloud.environment),
    ):
        job_id = submit(client, "stop me")
        wait_for(client, job_id, "progress")
        assert client.post(f"/v1/jobs/{job_id}/cancel").json() == {"ok": True}
        job = wait_for(client, job_id, "canceled", seconds=5)
        assert job["gcs_uri"] is None


def test_without_a_worker_health_says_that_they_are_scaled_to_zero(installation):
    with in_the_cloud(installation) as (client, _):
        health = client.get("/health").json()
        assert health["status"] == "degraded"
        assert "scaled to zero" in health["message"]


def test_a_push_wakes_the_worker_and_the_job_finishes(installation):
    port = free_port()
    worker = [
        "-m",
        "functions_framework",
        "--source=services/gpu_worker/main.py",
        "--target=render",
        "--signature-type=http",
        f"--port={port}",
        "--host=127.0.0.1",
    ]
    with in_the_cloud(installation, push_endpoint=f"http://127.0.0.1:{port}/") as (client, cloud):
        # Submitted while nobody listens: the message waits, and comes when somebody does.
        early = submit(client, "before the worker")
        with running_program(worker, cloud.config_file, name="push", **cloud.environment):
            late = submit(client, "with the worker")
            for job_id in (early, late):
                assert wait_for(client, job_id, "finished", "failed")["status"] == "finished"
                assert log_of(client, job_id).count("finished in") == 1
            probe = httpx.get(f"http://127.0.0.1:{port}/health")
            assert probe.status_code == 200


def test_twenty_jobs_and_two_workers_of_which_one_is_killed_half_way(installation):
    with in_the_cloud(installation) as (client, cloud), ExitStack() as workers:
        pair = [
            workers.enter_context(
                running_worker(
                    cloud.config_file, name=name, OMP_NUM_THREADS="1", **cloud.environment
                )
            )
            for name in ("first", "second")
        ]
        wait_for_workers(client, 2)
        jobs = [submit(client, f"clip {number}") for number in range(20)]
        wait_until_half_are_done(client, jobs)
        family = psutil.Process(pair[0].pid).children(recursive=True)
        pair[0].kill()
        for job_id in jobs:
            job = wait_for(client, job_id, "finished", "failed", seconds=120)
            assert job["status"] == "finished"
            assert log_of(client, job_id).count("finished in") == 1
            assert stored_files(cloud, job) == RESULTS
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive


def wait_until_half_are_done(client, jobs):
    deadline = time.monotonic() + 120
    while True:
        statuses = [client.get(f"/v1/jobs/{job_id}").json()["status"] for job_id in jobs]
        if statuses.count("finished") >= len(jobs) // 2:
            return
        assert time.monotonic() < deadline
        time.sleep(0.2)
