"""A worker that is told to stop hands its job back, or settles it, and is gone soon."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest
import yaml
from anyio import to_thread

from shared.config import load_config
from shared.errors import StoreUnavailable
from shared.job import JobStatus
from shared.lifecycle import Lifecycle
from shared.wiring import wire
from tests.unit.consumer_under_test import (
    SCRIPT,
    cancel,
    consume_while,
    is_rendering,
    quick_config,
    receive,
    stored_files,
    submit,
    until,
    working_files,
)

ROOT = Path(__file__).parents[2]
SCRIPTED_WORKER = Path(__file__).with_name("scripted_pull_worker.py")
# `promptreel up` kills a worker that has not ended after eight seconds, Cloud Run after ten.
STOP_SECONDS = 8


@pytest.fixture
def wiring(tmp_path):
    # Whoever asked a hanging render to stop, and waited, would be at it for two minutes.
    wired = wire(quick_config(tmp_path, grace_seconds=60))
    yield wired
    wired.close()


def with_lifecycle(wiring, lifecycle_class):
    return replace(wiring, lifecycle=lifecycle_class(**vars(wiring.lifecycle)))


async def stop(consumer):
    with anyio.fail_after(STOP_SECONDS):
        await consumer.hand_back()


def assert_back_in_the_queue(wiring, tmp_path, job):
    after = wiring.store.get(job.id)
    assert (after.status, after.attempt, after.lease) == (JobStatus.QUEUED, 0, None)
    assert receive(wiring).message.job_id == job.id
    assert not working_files(tmp_path)


@pytest.mark.parametrize("prompt", ["slow", "hang", "deaf", "freeze"])
def test_a_job_in_work_goes_back_at_no_cost_however_its_render_hangs(wiring, tmp_path, prompt):
    job = submit(wiring, prompt)

    async def disturb(consumer):
        await until(wiring, job.id, is_rendering)
        await stop(consumer)
        assert consumer.job_id is None

    consume_while(wiring, tmp_path, disturb, ends=True)
    assert_back_in_the_queue(wiring, tmp_path, job)


def test_a_job_whose_claim_is_on_its_way_goes_back_at_no_cost(wiring, tmp_path):
    claimed = threading.Event()

    class SlowToClaim(Lifecycle):
        def claim(self, *arguments, **fields):
            job = super().claim(*arguments, **fields)
            claimed.set()
            time.sleep(0.5)
            return job

    job = submit(wiring, "ok")

    async def disturb(consumer):
        await to_thread.run_sync(claimed.wait)
        await stop(consumer)

    consume_while(with_lifecycle(wiring, SlowToClaim), tmp_path, disturb, ends=True)
    assert_back_in_the_queue(wiring, tmp_path, job)


def test_a_message_that_comes_in_the_moment_of_a_stop_goes_back_unclaimed(wiring, tmp_path):
    job = submit(wiring, "ok")

    async def stop_first(consumer):
        await stop(consumer)
        await consumer.consume(receive(wiring))

    submit(wiring, "ok")  # what `consume_while` consumes
    consume_while(wiring, tmp_path, stop_first, ends=True)
    assert wiring.store.get(job.id).attempt == 0


def test_a_job_that_is_being_completed_is_finished(wiring, tmp_path):
    completing = threading.Event()

    class SlowToComplete(Lifecycle):
        def complete(self, *arguments, **fields):
            completing.set()
            time.sleep(0.5)
            return super().complete(*arguments, **fields)

    job = submit(wiring, "ok")

    async def disturb(consumer):
        await to_thread.run_sync(completing.wait)
        await stop(consumer)

    consume_while(with_lifecycle(wiring, SlowToComplete), tmp_path, disturb, ends=True)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED
    assert len(stored_files(wiring)) == 3
    assert receive(wiring) is None


def test_a_job_that_is_being_canceled_is_canceled(wiring, tmp_path):
    job = submit(wiring, "deaf")

    async def disturb(consumer):
        await until(wiring, job.id, is_rendering)
        await cancel(wiring, job)
        await anyio.sleep(0.6)  # until the worker has heard of it and waits for the render
        await stop(consumer)

    consume_while(wiring, tmp_path, disturb, ends=True)
    assert wiring.store.get(job.id).status is JobStatus.CANCELED
    assert receive(wiring) is None


@pytest.mark.parametrize("method", ["complete", "release"])
def test_a_store_that_does_not_answer_is_not_waited_for(wiring, tmp_path, method):
    answer, asked, waited_to_the_end = threading.Event(), threading.Event(), threading.Event()

    class Silent(Lifecycle):
        def _say_nothing(self):
            asked.set()
            answer.wait(timeout=30)
            waited_to_the_end.set()
            raise StoreUnavailable("the database cannot be used")

    setattr(Silent, method, lambda self, *_arguments, **_fields: self._say_nothing())
    job = submit(wiring, "ok" if method == "complete" else "hang")

    async def disturb(consumer):
        if method == "complete":
            await to_thread.run_sync(asked.wait)
        else:
            await until(wiring, job.id, is_rendering)
        await stop(consumer)

    consume_while(with_lifecycle(wiring, Silent), tmp_path, disturb, ends=True)
    assert not waited_to_the_end.is_set()
    answer.set()
    assert wiring.store.get(job.id).lease is not None  # until it expires


# --- the process


@pytest.fixture
def settings(tmp_path):
    config = quick_config(tmp_path, grace_seconds=60).model_dump(mode="json", exclude_unset=True)
    file = tmp_path / "promptreel.yaml"
    file.write_text(
        yaml.safe_dump({**config, "worker": {**config["worker"], "metrics_port": None}})
    )
    return file


@pytest.fixture
def worker(settings, tmp_path):
    """A worker as `promptreel up` starts it; its log is in ``tmp_path / "log"``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PROMPTREEL_CONFIG": str(settings)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPTED_WORKER)], env=environment, stdout=log, stderr=log
        )
        yield process
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_the_worker_with_its_hanging_render_and_a_second_one_does_no_harm(
    settings, worker, tmp_path, number
):
    wired = wire(load_config(settings))
    job = submit(wired, "deaf")
    wait_until(lambda: is_rendering(wired.store.get(job.id)))
    (renderer,) = [
        child
        for child in psutil.Process(worker.pid).children()
        if SCRIPT.name in " ".join(child.cmdline())
    ]
    worker.send_signal(number)
    wait_until(lambda: "worker stops" in (tmp_path / "log").read_text())
    worker.send_signal(number)
    assert worker.wait(timeout=STOP_SECONDS) == 0
    assert not renderer.is_running()
    after = wired.store.get(job.id)
    assert (after.status, after.attempt, after.lease) == (JobStatus.QUEUED, 0, None)
    assert receive(wired).message.job_id == job.id
    assert not [*(tmp_path / "state" / "work").iterdir()]
    wired.close()


def test_a_signal_ends_the_worker_with_all_its_jobs_in_work(settings, worker, tmp_path):
    wired = wire(load_config(settings))
    jobs = [submit(wired, prompt) for prompt in ("linger", "finish", "deaf", "ok")]
    for job in jobs[:3]:
        wait_until(lambda job=job: is_rendering(wired.store.get(job.id)))
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=STOP_SECONDS) == 0
    for job in jobs:
        after = wired.store.get(job.id)
        assert (after.status, after.attempt, after.lease) == (JobStatus.QUEUED, 0, None)
    assert {receive(wired).message.job_id for _ in jobs} == {job.id for job in jobs}
    assert not [*(tmp_path / "state" / "work").iterdir()]
    wired.close()


def test_an_idle_worker_ends_at_a_signal(settings, worker, tmp_path):
    wait_until(lambda: "model loaded" in (tmp_path / "log").read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=STOP_SECONDS) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
