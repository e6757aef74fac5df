"""A job's end and what is kept of it, whichever adapters keep it."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from shared import transitions as rules
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.config import Config
from shared.errors import ArtifactExpired, JobNotFound
from shared.job import UPLOAD_GRACE, Job, JobError, JobStatus, artifact_key
from shared.lifecycle import Lifecycle
from shared.ports import ArtifactStore, JobStore
from shared.sweep import SweepReport
from shared.telemetry import Metrics

GRACE_SECONDS = UPLOAD_GRACE.total_seconds()


@dataclass
class Clock:
    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(noon) -> Clock:
    return Clock(noon)


@pytest.fixture(params=["local", "gcp"])
def adapters(request, tmp_path) -> Iterator[tuple[JobStore, ArtifactStore]]:
    if request.param == "gcp":
        opened = (
            request.getfixturevalue("open_firestore_jobs")(),
            request.getfixturevalue("open_gcs_artifacts")(),
        )
    else:
        opened = (
            SqliteJobs(tmp_path / "jobs.sqlite3"),
            DiskArtifacts(
                tmp_path / "artifacts", bucket="bucket", signing=lambda: SigningSecrets(b"k" * 32)
            ),
        )
    with closing(opened[0]), closing(opened[1]):
        yield opened


@pytest.fixture
def artifact_store(adapters) -> ArtifactStore:
    """The one that ``stored_bytes`` looks into."""
    return adapters[1]


@dataclass(frozen=True, kw_only=True)
class House:
    lifecycle: Lifecycle
    store: JobStore
    clock: Clock
    clip: Path
    stored_bytes: Callable[[str], bytes]

    def upload(self, job: Job) -> str:
        key = artifact_key(job, prefix="videos", name="final_video.mp4")
        return self.lifecycle.artifacts.put(key, self.clip, content_type="video/mp4").key

    def is_stored(self, key: str) -> bool:
        try:
            self.stored_bytes(key)
        except ArtifactExpired:
            return False
        return True


@pytest.fixture
def house(adapters, clock, stored_bytes, tmp_path) -> Iterator[House]:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"a clip")
    store, artifacts = adapters
    queue = SqliteQueue(
        tmp_path / "queue.sqlite3",
        visibility_seconds=60,
        backoff_min_seconds=1,
        backoff_max_seconds=60,
        max_deliveries=3,
    )
    with closing(queue):
        lifecycle = Lifecycle(
            config=Config(),
            store=store,
            queue=queue,
            artifacts=artifacts,
            metrics=Metrics(),
            prompt_hash_key=b"key",
            now=clock,
        )
        yield House(
            lifecycle=lifecycle, store=store, clock=clock, clip=clip, stored_bytes=stored_bytes
        )


def test_a_finished_job_loses_its_file_then_itself_its_log_and_its_key(house, new_job, finish):
    store, sweep = house.store, house.lifecycle.sweep
    job, neighbour = new_job(idempotency_key="order-17"), new_job(published_at=house.clock())
    for one in (job, neighbour):
        store.admit(one)
    store.append_log(job.id, ["rendered"], now=house.clock())
    key, other = house.upload(job), house.upload(neighbour)
    store.update(job.id, partial(_finish_with, finish, key))

    house.clock.advance(99)
    assert not sweep()
    assert house.is_stored(key)
    house.clock.advance(1)
    assert sweep() == SweepReport(expired=1)
    assert not house.is_stored(key)
    expired = store.get(job.id)
    assert (expired.status, expired.artifacts) == (JobStatus.FINISHED, ())
    assert expired.artifacts_expired_at == house.clock()
    assert not store.admit(new_job(idempotency_key="order-17")).created

    house.clock.advance(900)
    assert sweep() == SweepReport(forgotten=1)
    with pytest.raises(JobNotFound):
        store.get(job.id)
    assert list(store.tail_log(job.id, tail=10)) == []
    assert store.admit(new_job(idempotency_key="order-17")).created
    assert house.is_stored(other)


def test_what_a_failed_job_left_goes_after_a_minute_and_once_more_with_the_job(house, new_job):
    store, now, job = house.store, house.clock(), new_job()
    error = JobError(code="prompt_refused", message="The model refused the prompt.")
    store.admit(job)
    store.update(job.id, partial(rules.claim, token="t", worker="w", now=now, lease_seconds=30))
    key = house.upload(job)
    store.update(job.id, partial(rules.fail, token="t", error=error, now=now))
    assert not house.lifecycle.sweep()
    house.clock.advance(GRACE_SECONDS)
    assert house.lifecycle.sweep() == SweepReport(tidied=1)
    assert not house.is_stored(key)
    assert store.get(job.id).error == error

    house.upload(job)
    house.clock.advance(1000 - GRACE_SECONDS)
    assert house.lifecycle.sweep() == SweepReport(forgotten=1)
    assert not house.is_stored(key)


def _finish_with(finish: Callable[[Job], Job], key: str, job: Job) -> Job:
    finished = finish(job)
    return replace(finished, artifacts=(replace(finished.artifacts[0], key=key),))
