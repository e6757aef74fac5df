"""Several jobs in one worker: one on the device, those before it on their way out."""

import sys
import threading
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from anyio import to_thread

from services.gpu_worker.pull import Worker
from shared.catalog import TOPIC_GPU
from shared.job import JobStatus, Lease
from shared.messages import Message
from shared.wiring import wire
from tests.unit.consumer_under_test import (
    SCRIPT,
    cancel,
    eventually,
    is_rendering,
    let_go,
    quick_config,
    receive,
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


@asynccontextmanager
async def consuming(wiring, tmp_path):
    """A consumer, and how to give it the next message when it is free for it."""
    async with working(wiring, tmp_path) as consumer, anyio.create_task_group() as tasks:

        async def begin():
            with anyio.fail_after(20):
                await consumer.wait_for_room()
                await tasks.start(consumer.consume, receive(wiring))

        with anyio.fail_after(60):
            yield consumer, begin
        tasks.cancel_scope.cancel()


def on_trio(main):
    anyio.run(main, backend="trio")


def stored(wiring, job):
    return wiring.store.get(job.id)


def has_ended(job):
    return job.status.is_terminal


def is_back(job):
    return job.status is JobStatus.QUEUED


def files_of(wiring, job):
    folder = next(iter(wiring.config.data_dir.glob(f"artifacts/*/*/*/{job.id}")))
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_job_is_begun_while_the_one_before_is_finished_and_both_get_their_own_files(
    wiring, tmp_path
):
    first, second = submit(wiring, "finish"), submit(wiring, "finish")

    async def main():
        async with consuming(wiring, tmp_path) as (consumer, begin):
            await begin()
            await begin()
            await until(wiring, second.id, is_rendering)
            assert is_rendering(stored(wiring, first))
            assert consumer.job_id == second.id
            for job in (second, first):
                let_go(tmp_path, job)
                await until(wiring, job.id, has_ended)

    on_trio(main)
    for job in (first, second):
        after = stored(wiring, job)
        assert (after.status, after.attempt) == (JobStatus.FINISHED, 1)
        seed = job.request.seed
        assert files_of(wiring, job)["final_video.mp4"] == f"video of seed {seed}"
    assert wiring.queue.depth(TOPIC_GPU) == 0


class HeldUpArtifacts:
    """An artifact store that takes its time for the first file."""

    def __init__(self, artifacts):
        self._artifacts = artifacts
        self.held_up, self.go_on = threading.Event(), threading.Event()

    def put(self, key, source, *, content_type):
        if not self.held_up.is_set():
            self.held_up.set()
            assert self.go_on.wait(timeout=30)
        return self._artifacts.put(key, source, content_type=content_type)


def test_a_job_is_rendered_stored_and_settled_while_the_one_before_is_uploaded(wiring, tmp_path):
    artifacts = HeldUpArtifacts(wiring.artifacts)
    first, second = submit(wiring, "ok"), submit(wiring, "ok")

    async def main():
        async with consuming(replace(wiring, artifacts=artifacts), tmp_path) as (_, begin):
            await begin()
            await to_thread.run_sync(artifacts.held_up.wait)
            await begin()
            await until(wiring, second.id, has_ended)
            assert not has_ended(stored(wiring, first))
            artifacts.go_on.set()
            await until(wiring, first.id, has_ended)

    on_trio(main)
    assert stored(wiring, first).status is JobStatus.FINISHED
    assert stored(wiring, second).status is JobStatus.FINISHED


class WatchedQueue:
    """Notes what its messages' jobs were when they were acknowledged."""

    def __init__(self, queue, store):
        self._queue = queue
        self._store = store
        self.acknowledged = {}

    def __getattr__(self, name):
        return getattr(self._queue, name)

    def acknowledge(self, delivery):
        job_id = delivery.message.job_id
        self.acknowledged[job_id] = self._store.get(job_id).status
        self._queue.acknowledge(delivery)


def test_a_message_is_acknowledged_only_when_its_own_job_is_settled(wiring, tmp_path):
    queue = WatchedQueue(wiring.queue, wiring.store)
    watched = replace(wiring, queue=queue)
    jobs = [submit(wiring, prompt) for prompt in ("finish", "refuse", "ok", "slow")]
    held, _, fine, slow = jobs

    async def main():
        async with consuming(watched, tmp_path) as (_, begin), anyio.create_task_group() as tasks:
            for _ in range(3):
                await begin()
            tasks.start_soon(begin)
            await until(wiring, slow.id, is_rendering)
            await until(wiring, fine.id, has_ended)
            await eventually(lambda: len(queue.acknowledged) == 2)
            assert held.id not in queue.acknowledged
            await cancel(wiring, slow)
            let_go(tmp_path, held)
            await eventually(lambda: len(queue.acknowledged) == 4)

    on_trio(main)
    finished, failed = JobStatus.FINISHED, JobStatus.FAILED
    statuses = [queue.acknowledged[job.id] for job in jobs]
    assert statuses == [finished, failed, finished, JobStatus.CANCELED]


def test_a_worker_that_is_full_begins_the_next_job_when_one_has_left(tmp_path):
    wiring = wire(quick_config(tmp_path, jobs_at_once=2))
    jobs = [submit(wiring, "finish") for _ in range(3)]

    async def main():
        async with consuming(wiring, tmp_path) as (_, begin), anyio.create_task_group() as tasks:
            await begin()
            await begin()
            tasks.start_soon(begin)
            await anyio.sleep(0.3)  # in which it would be claimed, were there room
            assert stored(wiring, jobs[2]).attempt == 0
            let_go(tmp_path, jobs[1])
            await until(wiring, jobs[2].id, is_rendering)
            assert stored(wiring, jobs[1]).status is JobStatus.FINISHED

    on_trio(main)
    wiring.close()


@pytest.mark.parametrize("canceled", [0, 1], ids=["being finished", "being denoised"])
def test_a_canceled_job_leaves_the_others_alone(wiring, tmp_path, canceled):
    jobs = [submit(wiring, "finish"), submit(wiring, "finish")]
    other = jobs[1 - canceled]

    async def main():
        async with consuming(wiring, tmp_path) as (_, begin):
            await begin()
            await begin()
            await cancel(wiring, jobs[canceled])
            await until(wiring, jobs[canceled].id, has_ended)
            assert not has_ended(stored(wiring, other))
            let_go(tmp_path, other)
            await until(wiring, other.id, has_ended)

    on_trio(main)
    assert stored(wiring, jobs[canceled]).status is JobStatus.CANCELED
    after = stored(wiring, other)
    assert (after.status, after.attempt) == (JobStatus.FINISHED, 1)


def test_a_process_killed_for_one_job_costs_the_other_no_attempt_and_it_is_rendered_again(
    wiring, tmp_path
):
    innocent, hanging = submit(wiring, "finish"), submit(wiring, "hang")

    async def main():
        async with (
            consuming(wiring, tmp_path) as (consumer, begin),
            anyio.create_task_group() as tasks,
        ):
            await begin()
            tasks.start_soon(begin)
            await until(wiring, hanging.id, is_rendering)
            await cancel(wiring, hanging)
            await until(wiring, hanging.id, has_ended)
            await until(wiring, innocent.id, is_back)
            assert stored(wiring, innocent).attempt == 0
            with anyio.fail_after(20):
                await consumer._supervisor.wait_ready()
            await begin()  # Its message is there already.
            let_go(tmp_path, innocent)
            await until(wiring, innocent.id, has_ended)

    on_trio(main)
    assert stored(wiring, hanging).status is JobStatus.CANCELED
    after = stored(wiring, innocent)
    assert (after.status, after.attempt) == (JobStatus.FINISHED, 1)
    assert "another job's render had to be killed" in "\n".join(
        wiring.store.tail_log(innocent.id, tail=50)
    )


def test_a_worker_that_goes_down_hands_all_its_jobs_back(tmp_path):
    # Whoever asked the renders to stop, and waited, would be at it for a minute.
    wiring = wire(quick_config(tmp_path, grace_seconds=60))
    jobs = [submit(wiring, prompt) for prompt in ("finish", "linger", "deaf")]

    async def main():
        async with (
            consuming(wiring, tmp_path) as (consumer, begin),
            anyio.create_task_group() as tasks,
        ):
            await begin()
            await begin()
            tasks.start_soon(begin)
            await until(wiring, jobs[2].id, is_rendering)
            with anyio.fail_after(3):
                await consumer.hand_back()
            assert consumer.job_id is None
            assert not working_files(tmp_path)

    on_trio(main)
    for job in jobs:
        after = stored(wiring, job)
        assert (after.status, after.attempt, after.lease) == (JobStatus.QUEUED, 0, None)
    messages = {receive(wiring).message.job_id for _ in jobs}
    assert messages == {job.id for job in jobs}
    wiring.close()


def test_a_second_attempt_in_the_same_worker_begins_when_the_first_one_is_gone(wiring, tmp_path):
    job = submit(wiring, "finish")

    def taken_back(current):
        assert isinstance(current.lease, Lease)
        return replace(current, status=JobStatus.QUEUED, lease=None)

    async def main():
        async with consuming(wiring, tmp_path) as (_, begin):
            await begin()
            let_go_of_the_first = tmp_path / "work" / job.id / "go"
            await to_thread.run_sync(wiring.store.update, job.id, taken_back)
            wiring.queue.publish(TOPIC_GPU, Message(job_id=job.id))
            await begin()
            assert not let_go_of_the_first.exists()
            let_go(tmp_path, job)
            await until(wiring, job.id, has_ended)

    on_trio(main)
    after = stored(wiring, job)
    assert (after.status, after.attempt) == (JobStatus.FINISHED, 2)
    assert sorted(files_of(wiring, job)) == RESULT


def test_a_worker_receives_no_message_while_the_device_is_taken(wiring, tmp_path):
    jobs = [submit(wiring, prompt) for prompt in ("finish", "slow", "ok")]

    async def main():
        command = (sys.executable, str(SCRIPT))
        worker = Worker(wiring, instance="w1", workspace=workspace(tmp_path), command=command)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            await until(wiring, jobs[1].id, is_rendering)  # while the first one is not finished
            assert is_rendering(stored(wiring, jobs[0]))
            waiting = await to_thread.run_sync(receive, wiring)
            assert waiting.message.job_id == jobs[2].id
            wiring.queue.release(waiting, delay_seconds=0)
            await cancel(wiring, jobs[1])
            await until(wiring, jobs[2].id, has_ended)
            let_go(tmp_path, jobs[0])
            await until(wiring, jobs[0].id, has_ended)
            tasks.cancel_scope.cancel()

    on_trio(main)
    starts = [stored(wiring, job).started_at for job in jobs]
    assert starts == sorted(starts)
    assert [stored(wiring, job).attempt for job in jobs] == [1, 1, 1]


def workspace(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder
