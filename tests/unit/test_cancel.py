"""A job can be stopped in every phase, and whatever stops it leaves no file that is not a result."""

import shutil
import threading
from dataclasses import replace
from functools import partial

import anyio
import pytest
from anyio import to_thread

from shared import transitions as rules
from shared.job import JobStatus
from shared.wiring import wire
from tests.unit.consumer_under_test import (
    cancel,
    consume,
    consume_while,
    eventually,
    is_rendering,
    quick_config,
    receive,
    stored_files,
    submit,
    until,
    working,
    working_files,
)

RESULT = ["final_video.mp4", "poster.jpg", "spritesheet.jpg"]


@pytest.fixture
def wiring(tmp_path):
    wired = wire(quick_config(tmp_path))
    yield wired
    wired.close()


class Interfering:
    """A job store in which something else happens right before or after a transition is stored."""

    def __init__(self, store, rule, *, before=None, after=None):
        self._store = store
        self._rule = rule
        self._before = before or (lambda _job_id: None)
        self._after = after or (lambda _job_id: None)

    def __getattr__(self, name):
        return getattr(self._store, name)

    def update(self, job_id, transition):
        if transition.func is not self._rule:
            return self._store.update(job_id, transition)
        self._before(job_id)
        job = self._store.update(job_id, transition)
        self._after(job_id)
        return job


def with_store(wiring, store):
    return replace(wiring, store=store, lifecycle=replace(wiring.lifecycle, store=store))


class HeldUpArtifacts:
    """An artifact store that takes its time for the second file, and then stores it all the same."""

    def __init__(self, artifacts, folder):
        self._artifacts = artifacts
        self._folder = folder
        self.held_up = threading.Event()
        self.go_on = threading.Event()
        self.has_stored = threading.Event()
        self.puts = 0

    def put(self, key, source, *, content_type):
        self.puts += 1
        if self.puts != 2:
            return self._artifacts.put(key, source, content_type=content_type)
        sent = shutil.copy(source, self._folder / "sent")
        self.held_up.set()
        assert self.go_on.wait(timeout=30)
        stored = self._artifacts.put(key, sent, content_type=content_type)
        self.has_stored.set()
        return stored

    def delete(self, key):
        self._artifacts.delete(key)


@pytest.fixture
def artifacts(wiring, tmp_path):
    artifacts = HeldUpArtifacts(wiring.artifacts, tmp_path)
    yield artifacts
    artifacts.go_on.set()  # its thread must not outlive the test


def assert_canceled_without_a_trace(wiring, tmp_path, job):
    assert wiring.store.get(job.id).status is JobStatus.CANCELED
    assert not stored_files(wiring)
    assert not working_files(tmp_path)
    assert receive(wiring) is None


# --- before and in the render


def test_a_queued_job_is_canceled_without_an_attempt(wiring, tmp_path):
    job = submit(wiring, "ok")
    wiring.lifecycle.cancel(job.id, owner="ada")
    consume(wiring, tmp_path)
    assert_canceled_without_a_trace(wiring, tmp_path, job)
    assert wiring.store.get(job.id).attempt == 0


def test_a_job_that_has_just_been_claimed_is_canceled(wiring, tmp_path):
    job = submit(wiring, "slow")
    request = partial(wiring.lifecycle.cancel, owner="ada")
    consume(with_store(wiring, Interfering(wiring.store, rules.claim, after=request)), tmp_path)
    assert_canceled_without_a_trace(wiring, tmp_path, job)


@pytest.mark.parametrize("prompt", ["slow", "encode", "hang", "deaf", "flood"])
def test_a_running_render_is_canceled_whether_it_listens_or_not(wiring, tmp_path, prompt):
    job = submit(wiring, prompt)

    async def disturb(_consumer):
        await until(wiring, job.id, is_rendering)
        await cancel(wiring, job)
        await until(wiring, job.id, lambda job: job.status is JobStatus.CANCELED)

    consume_while(wiring, tmp_path, disturb)
    assert_canceled_without_a_trace(wiring, tmp_path, job)


# --- in the upload


def test_a_cancel_does_not_wait_for_a_slow_upload_which_removes_itself(wiring, tmp_path, artifacts):
    job = submit(wiring, "ok")

    async def disturb(_consumer):
        await to_thread.run_sync(artifacts.held_up.wait)
        await cancel(wiring, job)
        await until(wiring, job.id, lambda job: job.status is JobStatus.CANCELED)

    consume_while(replace(wiring, artifacts=artifacts), tmp_path, disturb)
    assert_canceled_without_a_trace(wiring, tmp_path, job)
    artifacts.go_on.set()
    assert artifacts.has_stored.wait(timeout=10)
    anyio.run(eventually, lambda: not stored_files(wiring))


def gone(wiring, job_id):
    wiring.store.delete(job_id)


def canceled(wiring, job_id):
    wiring.store.update(
        job_id,
        lambda job: replace(job, status=JobStatus.CANCELED, lease=None, finished_at=job.created_at),
    )


def finished(wiring, job_id):
    wiring.store.update(
        job_id,
        lambda job: replace(job, status=JobStatus.FINISHED, lease=None, finished_at=job.created_at),
    )


def in_other_hands(wiring, job_id):
    wiring.store.update(
        job_id, lambda job: replace(job, lease=replace(job.lease, token="another's"))
    )


@pytest.mark.parametrize(
    ("fate", "files"),
    [(gone, []), (canceled, []), (finished, RESULT[:2]), (in_other_hands, RESULT[:2])],
)
def test_a_lease_lost_in_the_upload_leaves_files_only_to_an_heir(
    wiring, tmp_path, artifacts, fate, files
):
    job = submit(wiring, "ok")

    async def main():
        async with working(replace(wiring, artifacts=artifacts), tmp_path) as consumer:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(consumer.consume, receive(wiring))
                await to_thread.run_sync(artifacts.held_up.wait)
                fate(wiring, job.id)
            assert not working_files(tmp_path)
            artifacts.go_on.set()
            await to_thread.run_sync(artifacts.has_stored.wait)
            await eventually(lambda: stored_files(wiring) == files)
            # They stay, or stay away.
            await anyio.sleep(0.2)
            assert stored_files(wiring) == files

    anyio.run(main, backend="trio")
    assert wiring.metrics.registry.get_sample_value("promptreel_leases_lost_total") == 1


def test_a_worker_without_its_lease_uploads_nothing(wiring, tmp_path, artifacts):
    job = submit(wiring, "ok")
    steal = partial(in_other_hands, wiring)
    stolen = with_store(wiring, Interfering(wiring.store, rules.claim, after=steal))
    consume(replace(stolen, artifacts=artifacts), tmp_path)
    assert artifacts.puts == 0
    assert wiring.store.get(job.id).lease.token == "another's"


# --- at the very end


def test_a_cancel_in_the_moment_of_completion_comes_too_late(wiring, tmp_path):
    job = submit(wiring, "ok")
    request = partial(wiring.lifecycle.cancel, owner="ada")
    consume(with_store(wiring, Interfering(wiring.store, rules.complete, before=request)), tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED
    assert stored_files(wiring) == RESULT


def test_a_job_canceled_in_its_upload_is_finished_with_all_files_or_canceled_with_none(
    wiring, tmp_path
):
    class CancelledAtTheLastFile:
        """By a caller who comes a little earlier or later each time."""

        def __init__(self, artifacts):
            self._artifacts = artifacts
            self.delay_seconds = 0.0

        def put(self, key, source, *, content_type):
            stored = self._artifacts.put(key, source, content_type=content_type)
            if key.endswith("spritesheet.jpg"):
                job_id = key.split("/")[-2]
                wiring.lifecycle.cancel(job_id, owner="ada")
                threading.Event().wait(self.delay_seconds)
            return stored

        def delete(self, key):
            self._artifacts.delete(key)

    artifacts = CancelledAtTheLastFile(wiring.artifacts)

    async def main():
        async with working(replace(wiring, artifacts=artifacts), tmp_path) as consumer:
            for delay_seconds in (0, 0.2, 0.38, 0.4, 0.42, 0.6):
                artifacts.delay_seconds = delay_seconds
                job = submit(wiring, "ok")
                await consumer.consume(receive(wiring))
                status = wiring.store.get(job.id).status
                assert status in {JobStatus.FINISHED, JobStatus.CANCELED}
                await anyio.sleep(0.7)  # until the last put has ended, too
                folder = next(iter(wiring.config.data_dir.glob(f"artifacts/*/*/*/{job.id}")), None)
                files = sorted(path.name for path in folder.iterdir()) if folder else []
                assert files == (RESULT if status is JobStatus.FINISHED else [])

    anyio.run(main, backend="trio")
