"""A disk without room: the kernel really refuses what is written beyond a size.

A quota and a full disk fail the same system calls; the errors' numbers are all that differs.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.errors import (
    ArtifactStoreUnavailable,
    JobNotFound,
    QueueUnavailable,
    StoreUnavailable,
)
from shared.job import Job
from shared.messages import Message
from shared.ports import WorkerBeat
from shared.transitions import mark_published
from tests.jobs import NOON, REQUEST, plain_job

KEY = "videos/2026-01/job_1/final_video.mp4"
TOPIC = "render-gpu"


@contextmanager
def no_file_longer_than(size_bytes: int) -> Iterator[None]:
    """Python ignores the signal that comes with it, so that a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


full_disk = partial(no_file_longer_than, 0)


def a_job(number: int = 1) -> Job:
    return plain_job(
        id=f"job_{number}",
        idempotency_key=f"order-{number}",
        request=replace(REQUEST, prompt="a red circle " * 100),
    )


# --- files


@pytest.fixture
def artifacts(tmp_path) -> DiskArtifacts:
    return DiskArtifacts(
        tmp_path / "artifacts", bucket="bucket", signing=lambda: SigningSecrets(b"k" * 32)
    )


@pytest.fixture
def clip(tmp_path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"a clip" * 500_000)  # three chunks of the copy
    return file


@pytest.mark.parametrize("room_bytes", [0, 1, 100_000, 2 * 1024**2, 2_999_999])
def test_a_file_there_is_no_room_for_leaves_nothing_and_is_stored_once_there_is(
    artifacts, clip, tmp_path, room_bytes
):
    with no_file_longer_than(room_bytes), pytest.raises(ArtifactStoreUnavailable) as caught:
        artifacts.put(KEY, clip, content_type="video/mp4")
    assert str(tmp_path) not in caught.value.message
    assert sorted(path.name for path in (tmp_path / "artifacts").rglob("*")) == [
        ".partial",
        "bucket",
    ]
    assert artifacts.put(KEY, clip, content_type="video/mp4").size_bytes == 3_000_000


def test_a_full_disk_keeps_no_file_from_being_found_or_removed(artifacts, clip, tmp_path):
    stored = artifacts.put(KEY, clip, content_type="video/mp4")
    with full_disk():
        assert artifacts.put(KEY, clip, content_type="video/mp4") == stored
        artifacts.delete_all("videos/2026-01/job_1")
    assert list((tmp_path / "artifacts" / "bucket").iterdir()) == []


def test_many_files_there_was_no_room_for_hold_nothing_open(artifacts, clip):
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    with no_file_longer_than(100_000):
        for _ in range(20):
            with pytest.raises(ArtifactStoreUnavailable):
                artifacts.put(KEY, clip, content_type="video/mp4")
    assert open_files() == before


# --- jobs


@pytest.fixture
def jobs(tmp_path) -> Iterator[SqliteJobs]:
    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as store:
        yield store


def test_of_jobs_that_fill_the_disk_each_is_stored_whole_or_refused(jobs, tmp_path):
    accepted: list[Job] = []

    def fill() -> None:
        for number in range(1000):
            jobs.admit(a_job(number))
            accepted.append(a_job(number))

    with no_file_longer_than(300_000):
        with pytest.raises(StoreUnavailable) as caught:
            fill()
        refused = a_job(len(accepted))
        assert accepted == [jobs.get(job.id) for job in accepted]
        with pytest.raises(JobNotFound):
            jobs.get(refused.id)
    assert str(tmp_path) not in caught.value.message

    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as reopened:
        assert sum(reopened.counts().values()) == len(accepted)
        assert reopened.admit(refused).created  # its key was not taken either
    assert jobs.get(refused.id) == refused


@pytest.mark.parametrize(
    "write",
    [
        lambda jobs: jobs.admit(a_job(2)),
        lambda jobs: jobs.update("job_1", partial(mark_published, now=NOON)),
        lambda jobs: jobs.update("job_1", lambda job: replace(job, traceparent="x" * 10**6)),
        lambda jobs: jobs.append_log("job_1", ["x" * 1000] * 1000, now=NOON),
        lambda jobs: jobs.delete("job_1"),
        lambda jobs: jobs.beat(
            WorkerBeat(
                instance="w",
                model="wan2.1-demo",
                device=None,
                model_loaded=False,
                job_id=None,
                seen_at=NOON,
            )
        ),
    ],
    ids=["admit", "update", "a longer job", "append_log", "delete", "beat"],
)
def test_a_write_there_is_no_room_for_changes_nothing_and_works_once_there_is(
    jobs, write: Callable[[SqliteJobs], object]
):
    jobs.admit(a_job())
    jobs.append_log("job_1", ["first"], now=NOON)
    with full_disk():
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                write(jobs)
    assert jobs.get("job_1") == a_job()
    assert len(jobs.tail_log("job_1", tail=10)) == 1
    assert jobs.workers(seen_since=NOON) == []
    with pytest.raises(JobNotFound):
        jobs.get("job_2")
    write(jobs)


# --- messages


@pytest.fixture
def queue(tmp_path) -> Iterator[SqliteQueue]:
    queue = SqliteQueue(
        tmp_path / "queue.sqlite3",
        visibility_seconds=60,
        backoff_min_seconds=1,
        backoff_max_seconds=60,
        max_deliveries=3,
    )
    with closing(queue):
        yield queue


def test_messages_there_is_no_room_for_are_refused_and_those_accepted_are_delivered(queue):
    accepted: list[str] = []

    def fill() -> None:
        for number in range(10_000):
            message = Message(job_id=f"job_{number}", traceparent="x" * 1000)
            queue.publish(TOPIC, message)
            accepted.append(message.job_id)

    with no_file_longer_than(300_000), pytest.raises(QueueUnavailable):
        fill()
    queue.publish(TOPIC, Message(job_id="job_last"))
    delivered = []
    while delivery := queue.receive([TOPIC], wait_seconds=0):
        queue.acknowledge(delivery)
        delivered.append(delivery.message.job_id)
    assert delivered == [*accepted, "job_last"]


def test_a_full_disk_costs_a_message_neither_its_place_nor_a_delivery(queue):
    queue.publish(TOPIC, Message(job_id="job_1"))
    with full_disk():
        for _ in range(5):
            with pytest.raises(QueueUnavailable):
                queue.receive([TOPIC], wait_seconds=0)
    delivery = queue.receive([TOPIC], wait_seconds=0)
    assert (delivery.message.job_id, delivery.delivery_attempt) == ("job_1", 1)

    with full_disk():
        for answer in (queue.acknowledge, queue.release, queue.extend):
            with pytest.raises(QueueUnavailable):
                answer(delivery)
    assert queue.depth(TOPIC) == 1
    queue.acknowledge(delivery)
    assert queue.depth(TOPIC) == 0
