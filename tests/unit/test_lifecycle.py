"""The life of a job, with the adapters of one machine and a clock set by hand."""

import io
import json
import logging
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from unittest.mock import Mock

import pytest
import structlog

from shared import job_events as job_events_module
from shared import lifecycle as lifecycle_module
from shared import sweep as sweep_module
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.admission import NO_LIMITS, AdmissionLimits
from shared.catalog import TOPIC_GPU
from shared.config import Config
from shared.errors import (
    ArtifactStoreUnavailable,
    BackendUnavailable,
    IdempotencyConflict,
    InvalidRequest,
    JobAlreadyTerminal,
    JobNotFound,
    LeaseHeld,
    LeaseLost,
    PromptRefused,
    QueueUnavailable,
    TooManyInFlight,
)
from shared.job import (
    PUBLISH_GRACE,
    REPUBLISH_AFTER,
    Artifact,
    Job,
    JobStatus,
    Phase,
    RenderSummary,
)
from shared.lifecycle import Lifecycle
from shared.messages import Message
from shared.ports import StoredFile
from shared.submission import StartingPicture, Submission
from shared.telemetry import Metrics, configure_logging

PROMPT = "an otter juggling pebbles"
MODEL = "wan2.1-demo"
DAY_SECONDS = 24 * 3600
SUMMARY = RenderSummary(
    device="cpu",
    frames=81,
    fps=16,
    native_size="416x240",
    output_size="832x480",
    generation_seconds=2.0,
    phase_seconds={"generation": 1.5},
)


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class FlakyQueue(SqliteQueue):
    """A queue that can be taken down: nothing is published then."""

    down = False

    def publish(self, topic: str, message: Message) -> None:
        if self.down:
            raise QueueUnavailable("the queue cannot be used")
        super().publish(topic, message)


class FlakyArtifacts(DiskArtifacts):
    """A bucket with files that cannot be removed."""

    stuck: frozenset[str] = frozenset()
    meeting: Barrier | None = None  # of those who remove a file each
    full = False

    def put(self, key: str, source: Path, *, content_type: str) -> StoredFile:
        if self.full:
            raise ArtifactStoreUnavailable("the disk is full")
        return super().put(key, source, content_type=content_type)

    def delete(self, key: str) -> None:
        if self.meeting is not None:
            self.meeting.wait()
        if key in self.stuck:
            raise ArtifactStoreUnavailable("the file cannot be removed")
        super().delete(key)


@dataclass(frozen=True, kw_only=True)
class House:
    lifecycle: Lifecycle
    store: SqliteJobs
    queue: FlakyQueue
    artifacts: FlakyArtifacts
    metrics: Metrics
    clock: Clock
    folder: Path

    def submit(self, **fields) -> Job:
        plain = Submission(owner="ada", prompt=PROMPT, request_id="req_1", body={"prompt": PROMPT})
        return self.lifecycle.submit(replace(plain, **fields))

    def limited(self, **limits: int) -> "House":
        """The same house with other limits."""
        config = self.lifecycle.config
        changed = config.model_copy(update={"limits": config.limits.model_copy(update=limits)})
        return replace(self, lifecycle=replace(self.lifecycle, config=changed))

    def claimed(self, **fields) -> Job:
        return self.lifecycle.claim(self.submit(**fields).id, worker="w1")

    def stored_clip(self, job: Job) -> Artifact:
        clip = self.folder / "clip.mp4"
        clip.write_bytes(b"a clip")
        stored = self.artifacts.put(f"videos/{job.id}/v.mp4", clip, content_type="video/mp4")
        return Artifact(
            kind="video",
            key=stored.key,
            uri=stored.uri,
            content_type="video/mp4",
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=832,
            height=480,
        )

    def finished(self) -> Job:
        job = self.claimed()
        return self.lifecycle.complete(
            job.id, token=job.lease.token, artifacts=(self.stored_clip(job),), summary=SUMMARY
        )

    def messages(self) -> list[str]:
        """The jobs whose message waits, taken out of the queue."""
        found = []
        while delivery := self.queue.receive([TOPIC_GPU], wait_seconds=0):
            self.queue.acknowledge(delivery)
            found.append(delivery.message.job_id)
        return found

    def kill_message(self) -> None:
        """Deliver the message that waits until the queue gives it up."""
        while delivery := self.queue.receive([TOPIC_GPU], wait_seconds=0):
            self.queue.release(delivery, delay_seconds=0)

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"promptreel_{name}", labels) or 0.0

    def ended(self, status: JobStatus) -> float:
        return self.metric("jobs_ended_total", model=MODEL, status=status.value)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    store = SqliteJobs(tmp_path / "jobs.sqlite3")
    queue = FlakyQueue(
        tmp_path / "queue.sqlite3",
        visibility_seconds=60,
        backoff_min_seconds=1,
        backoff_max_seconds=60,
        max_deliveries=3,
    )
    artifacts = FlakyArtifacts(
        tmp_path / "artifacts", bucket="bucket", signing=lambda: SigningSecrets(b"k" * 32)
    )
    clock, metrics = Clock(), Metrics()
    lifecycle = Lifecycle(
        config=Config(render={"model": MODEL}),
        store=store,
        queue=queue,
        artifacts=artifacts,
        metrics=metrics,
        prompt_hash_key=b"key",
        now=clock,
    )
    with closing(store), closing(queue):
        yield House(
            lifecycle=lifecycle,
            store=store,
            queue=queue,
            artifacts=artifacts,
            metrics=metrics,
            clock=clock,
            folder=tmp_path,
        )


# --- submit


def test_a_submitted_job_is_stored_queued_and_published_once(house):
    job = house.submit()
    assert job.status is JobStatus.QUEUED
    assert job.published_at == house.clock()
    assert house.store.get(job.id) == job
    assert house.messages() == [job.id]
    assert house.metric("jobs_submitted_total", model=MODEL) == 1


def test_what_the_caller_left_out_comes_from_the_configuration(house):
    request = house.submit().request
    assert (request.model, request.preset) == (MODEL, "reference")
    assert (request.duration_seconds, request.resolution) == (5, "480p")
    other = house.submit(duration_seconds=2, resolution="240p").request
    assert (other.duration_seconds, other.resolution) == (2, "240p")


def test_every_job_has_a_seed_of_its_own_unless_the_configuration_sets_one(house):
    assert house.submit().request.seed != house.submit().request.seed
    render = house.lifecycle.config.render.model_copy(update={"seed": 0})
    config = house.lifecycle.config.model_copy(update={"render": render})
    fixed = replace(house, lifecycle=replace(house.lifecycle, config=config))
    assert fixed.submit().request.seed == fixed.submit().request.seed == 0


def test_the_trace_travels_with_the_message(house):
    house.submit(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    delivery = house.queue.receive([TOPIC_GPU], wait_seconds=0)
    assert delivery.message.traceparent == f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "nul \x00"}, "prompt"),
        ({"prompt": "half \ud800"}, "prompt"),
        ({"duration_seconds": 0}, "duration"),
        ({"duration_seconds": 6}, "duration"),
        ({"resolution": "8k"}, "resolution"),
        ({"idempotency_key": ""}, "Idempotency-Key"),
        ({"idempotency_key": "x" * 256}, "Idempotency-Key"),
        ({"idempotency_key": "a\nb"}, "Idempotency-Key"),
    ],
)
def test_a_bad_submission_names_its_field_and_leaves_no_job(house, fields, field):
    with pytest.raises(InvalidRequest) as caught:
        house.submit(**fields)
    assert caught.value.field == field
    assert caught.value.message[0].isupper()
    assert sum(house.store.counts().values()) == 0
    assert house.messages() == []


def test_the_longest_prompt_allowed_is_accepted_in_any_script(house):
    prompt = "水" * 2000
    assert house.store.get(house.submit(prompt=prompt).id).request.prompt == prompt


def test_who_submits_is_told_what_was_accepted_however_quick_a_worker_is(house):
    publish = house.queue.publish

    def publish_to_a_quick_worker(topic, message):
        publish(topic, message)
        house.lifecycle.claim(message.job_id, worker="w1")

    house.queue.publish = publish_to_a_quick_worker
    job = house.submit()
    assert job.status is JobStatus.QUEUED
    assert house.lifecycle.get(job.id, owner="ada").status is JobStatus.STARTED


def test_a_job_that_could_not_be_published_is_accepted_and_the_sweep_publishes_it(house):
    house.queue.down = True
    job = house.submit()
    assert job.published_at is None
    house.clock.advance(PUBLISH_GRACE.total_seconds())
    assert house.lifecycle.sweep().published == 0

    house.queue.down = False
    assert house.lifecycle.sweep().published == 1
    assert house.messages() == [job.id]
    assert not house.lifecycle.sweep()


def test_a_job_just_being_published_is_left_to_its_submitter(house):
    house.queue.down = True
    house.submit()
    house.queue.down = False
    assert not house.lifecycle.sweep()


def test_a_job_nobody_claimed_for_long_gets_a_second_message(house):
    job = house.submit()
    assert house.messages() == [job.id]  # lost
    house.clock.advance(REPUBLISH_AFTER.total_seconds() - 1)
    assert not house.lifecycle.sweep()
    house.clock.advance(1)
    assert house.lifecycle.sweep().published == 1
    assert house.messages() == [job.id]


# --- limits


def test_a_refused_submission_leaves_no_job_and_no_message(house):
    house = house.limited(in_flight_per_owner=1)
    job = house.submit()
    with pytest.raises(TooManyInFlight):
        house.submit()
    assert sum(house.store.counts().values()) == 1
    assert house.messages() == [job.id]
    assert house.metric("jobs_refused_total", model=MODEL, code="too_many_in_flight") == 1
    assert house.metric("jobs_submitted_total", model=MODEL) == 1


def test_a_surface_may_have_limits_of_its_own(house):
    submission = Submission(owner="ada", prompt=PROMPT, request_id="req_1", body={"prompt": PROMPT})
    one = AdmissionLimits(in_flight_per_owner=1)
    house.submit()
    with pytest.raises(TooManyInFlight):
        house.lifecycle.submit(submission, limits=one)
    strict = house.limited(in_flight_per_owner=1)
    assert strict.lifecycle.submit(submission, limits=NO_LIMITS).status is JobStatus.QUEUED


# --- idempotency


def test_the_same_key_and_body_is_the_same_job_published_once(house):
    first = house.submit(idempotency_key="once")
    again = house.submit(idempotency_key="once", request_id="req_2")
    assert again == first
    assert house.messages() == [first.id]
    assert house.metric("jobs_submitted_total", model=MODEL) == 1


def test_the_same_key_with_another_body_is_a_conflict(house):
    house.submit(idempotency_key="once")
    with pytest.raises(IdempotencyConflict):
        house.submit(idempotency_key="once", body={"prompt": "another"})
    assert sum(house.store.counts().values()) == 1


def test_the_same_key_of_another_owner_is_another_job(house):
    first = house.submit(idempotency_key="once")
    assert house.submit(idempotency_key="once", owner="bob").id != first.id


def test_sixteen_submissions_at_once_with_one_key_make_one_job(house):
    with ThreadPoolExecutor(16) as threads:
        jobs = list(threads.map(lambda _: house.submit(idempotency_key="once"), range(16)))
    assert len({job.id for job in jobs}) == 1
    assert house.messages() == [jobs[0].id]


# --- reading


def test_another_owners_job_cannot_be_seen_or_canceled(house):
    job = house.submit()
    for call in (house.lifecycle.get, house.lifecycle.cancel):
        for job_id in (job.id, "job_unknown"):
            with pytest.raises(JobNotFound):
                call(job_id, owner="bob")
    assert house.lifecycle.get(job.id, owner="ada").status is JobStatus.QUEUED


def test_waiting_ends_with_the_job_or_with_the_time(house):
    job = house.claimed()
    assert house.lifecycle.wait(job.id, timeout_seconds=0.1).status is JobStatus.STARTED
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(house.lifecycle.wait, job.id, timeout_seconds=20)
        house.lifecycle.fail(job.id, token=job.lease.token, error=PromptRefused("no"))
        assert waiting.result(timeout=5).status is JobStatus.FAILED


# --- a render


def test_a_job_goes_from_claim_to_finished(house):
    job = house.submit()
    house.clock.advance(3)
    claimed = house.lifecycle.claim(job.id, worker="w1")
    token = claimed.lease.token
    house.clock.advance(5)
    house.lifecycle.heartbeat(job.id, token=token)
    reported = house.lifecycle.report(job.id, token=token, phase=Phase.GENERATION, fraction=0.5)
    assert (reported.status, reported.progress) == (JobStatus.PROGRESS, 45)
    assert reported.lease.expires_at == house.clock() + timedelta(seconds=30)
    artifact = house.stored_clip(job)
    done = house.lifecycle.complete(job.id, token=token, artifacts=(artifact,), summary=SUMMARY)
    assert house.store.get(job.id) == done
    assert (done.status, done.artifacts) == (JobStatus.FINISHED, (artifact,))
    assert house.ended(JobStatus.FINISHED) == 1
    assert house.metric("queue_seconds_sum") == 3
    assert house.metric("generation_seconds_sum") == 2
    assert house.metric("phase_seconds_sum", phase="generation") == 1.5


def test_a_second_claim_finds_the_lease_held(house):
    job = house.claimed()
    with pytest.raises(LeaseHeld):
        house.lifecycle.claim(job.id, worker="w2")


def test_every_claim_has_a_token_of_its_own(house):
    first = house.claimed()
    released = house.lifecycle.release(first.id, token=first.lease.token)
    assert (released.status, released.attempt) == (JobStatus.QUEUED, 0)
    second = house.lifecycle.claim(first.id, worker="w1")
    assert second.lease.token != first.lease.token


def test_only_the_first_claim_counts_as_time_in_the_queue(house):
    job = house.claimed()
    house.lifecycle.release(job.id, token=job.lease.token)
    house.clock.advance(100)
    job = house.lifecycle.claim(job.id, worker="w2")
    house.lifecycle.fail(job.id, token=job.lease.token, error=BackendUnavailable("busy"))
    house.lifecycle.claim(job.id, worker="w3")
    assert house.metric("queue_seconds_count") == 1


def test_an_unknown_or_ended_job_cannot_be_claimed(house):
    with pytest.raises(JobNotFound):
        house.lifecycle.claim("job_unknown", worker="w1")
    with pytest.raises(JobAlreadyTerminal):
        house.lifecycle.claim(house.finished().id, worker="w1")


def test_a_requesters_error_fails_the_job_at_the_first_attempt(house):
    job = house.claimed()
    failed = house.lifecycle.fail(job.id, token=job.lease.token, error=PromptRefused("Not that."))
    assert (failed.status, failed.error.code) == (JobStatus.FAILED, "prompt_refused")
    assert failed.error.message == "Not that."
    assert house.ended(JobStatus.FAILED) == 1


def test_a_transient_error_is_tried_again_until_the_attempts_are_used_up(house):
    job, seen = house.submit(), []
    while not job.status.is_terminal:
        job = house.lifecycle.claim(job.id, worker="w1")
        job = house.lifecycle.fail(
            job.id, token=job.lease.token, error=BackendUnavailable("The backend is busy.")
        )
        seen.append((job.status, job.attempt))
    assert seen == [(JobStatus.QUEUED, 1), (JobStatus.QUEUED, 2), (JobStatus.FAILED, 3)]
    assert job.error.code == "backend_unavailable"
    assert house.metric("job_retries_total", model=MODEL, code="backend_unavailable") == 2
    assert house.ended(JobStatus.FAILED) == 1


def test_a_stale_worker_cannot_overwrite_the_result_of_another(house):
    stale = house.claimed()
    house.clock.advance(31)
    current = house.lifecycle.claim(stale.id, worker="w2")
    done = house.lifecycle.complete(
        current.id,
        token=current.lease.token,
        artifacts=(house.stored_clip(current),),
        summary=SUMMARY,
    )
    for late in (
        lambda: house.lifecycle.complete(
            stale.id, token=stale.lease.token, artifacts=(), summary=SUMMARY
        ),
        lambda: house.lifecycle.heartbeat(stale.id, token=stale.lease.token),
        lambda: house.lifecycle.fail(
            stale.id, token=stale.lease.token, error=PromptRefused("late")
        ),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert house.store.get(stale.id) == done


def test_a_claim_that_ends_a_lost_job_is_counted_as_its_end(house):
    for _ in range(3):
        job = house.lifecycle.claim(house.submit(idempotency_key="k").id, worker="w")
        house.clock.advance(31)
    ended = house.lifecycle.claim(job.id, worker="w")
    assert (ended.status, ended.error.code, ended.lease) == (JobStatus.FAILED, "worker_lost", None)
    assert house.ended(JobStatus.FAILED) == 1
    assert house.metric("queue_seconds_count") == 1


# --- cancel


def test_a_queued_job_is_canceled_at_once_and_stays_so(house):
    job = house.submit()
    canceled = house.lifecycle.cancel(job.id, owner="ada")
    assert canceled.status is JobStatus.CANCELED
    assert house.lifecycle.cancel(job.id, owner="ada") == canceled
    with pytest.raises(JobAlreadyTerminal):
        house.lifecycle.claim(job.id, worker="w1")
    assert house.ended(JobStatus.CANCELED) == 1


def test_the_worker_of_a_canceled_job_learns_of_it_by_its_heartbeat(house):
    job = house.claimed()
    assert house.lifecycle.cancel(job.id, owner="ada").status is JobStatus.STARTED
    beaten = house.lifecycle.heartbeat(job.id, token=job.lease.token)
    assert beaten.cancel_requested_at == house.clock()
    stopped = house.lifecycle.acknowledge_cancel(job.id, token=job.lease.token)
    assert stopped.status is JobStatus.CANCELED
    assert house.ended(JobStatus.CANCELED) == 1


def test_a_canceled_job_its_worker_hands_back_has_ended(house):
    job = house.claimed()
    house.lifecycle.cancel(job.id, owner="ada")
    assert house.lifecycle.release(job.id, token=job.lease.token).status is JobStatus.CANCELED
    assert house.ended(JobStatus.CANCELED) == 1


def test_a_cancel_before_the_result_is_stored_loses_to_it(house):
    job = house.claimed()
    house.lifecycle.cancel(job.id, owner="ada")
    done = house.lifecycle.complete(
        job.id, token=job.lease.token, artifacts=(house.stored_clip(job),), summary=SUMMARY
    )
    assert done.status is JobStatus.FINISHED
    with pytest.raises(LeaseLost):
        house.lifecycle.acknowledge_cancel(job.id, token=job.lease.token)


def test_a_cancel_after_the_result_is_stored_is_refused(house):
    job = house.finished()
    with pytest.raises(JobAlreadyTerminal, match="finished"):
        house.lifecycle.cancel(job.id, owner="ada")
    assert house.store.get(job.id) == job


def test_a_cancel_and_a_result_at_once_leave_one_end(house):
    for _ in range(10):
        job = house.claimed()
        artifact = house.stored_clip(job)
        with ThreadPoolExecutor(2) as threads:
            canceling = threads.submit(house.lifecycle.cancel, job.id, owner="ada")
            house.lifecycle.complete(
                job.id, token=job.lease.token, artifacts=(artifact,), summary=SUMMARY
            )
        assert canceling.exception() is None or isinstance(
            canceling.exception(), JobAlreadyTerminal
        )
        assert house.store.get(job.id).status is JobStatus.FINISHED


# --- the sweep


def test_the_job_of_a_silent_worker_goes_back_to_the_queue(house):
    job = house.claimed()
    house.messages()
    house.clock.advance(29)
    assert not house.lifecycle.sweep()
    house.clock.advance(1)
    assert house.lifecycle.sweep().requeued == 1
    assert house.store.get(job.id).status is JobStatus.QUEUED
    assert house.messages() == [job.id]
    assert house.lifecycle.claim(job.id, worker="w2").attempt == 2


def test_a_job_whose_worker_is_alive_is_left_alone(house):
    job = house.claimed()
    for _ in range(10):
        house.clock.advance(20)
        house.lifecycle.heartbeat(job.id, token=job.lease.token)
        assert not house.lifecycle.sweep()


def test_a_job_that_lost_its_last_worker_fails(house):
    job = house.submit()
    for _ in range(3):
        house.lifecycle.claim(job.id, worker="w")
        house.clock.advance(30)
        report = house.lifecycle.sweep()
    assert report.ended == 1
    assert house.store.get(job.id).status is JobStatus.FAILED
    assert house.ended(JobStatus.FAILED) == 1


def test_a_requeued_job_that_could_not_be_published_is_published_by_the_next_sweep(house):
    job = house.claimed()
    house.messages()
    house.clock.advance(30)
    house.queue.down = True
    house.lifecycle.sweep()
    assert house.messages() == []
    house.queue.down = False
    house.lifecycle.sweep()
    assert house.messages() == [job.id]


@pytest.mark.parametrize("goes_back", ["fail", "release"])
def test_a_job_that_went_back_and_whose_message_another_took_for_done_gets_a_new_one(
    house, goes_back
):
    job = house.claimed()
    (delivery,) = [house.queue.receive([TOPIC_GPU], wait_seconds=0)]
    house.queue.acknowledge(delivery)  # by a worker that found the lease alive
    details = {"error": BackendUnavailable("busy")} if goes_back == "fail" else {}
    getattr(house.lifecycle, goes_back)(job.id, token=job.lease.token, **details)
    house.clock.advance(59)
    assert not house.lifecycle.sweep()
    house.clock.advance(1)
    assert house.lifecycle.sweep().published == 1
    assert house.messages() == [job.id]
    assert not house.lifecycle.sweep()


def test_a_dead_letter_fails_its_queued_job(house):
    job = house.submit()
    house.kill_message()
    assert house.lifecycle.sweep().ended == 1
    assert house.store.get(job.id).error.code == "undeliverable"
    assert house.ended(JobStatus.FAILED) == 1
    assert not house.queue.dead_letters(limit=9)
    assert not house.lifecycle.sweep()


def test_a_job_that_its_worker_finishes_while_a_sweep_looks_at_it_is_told_once(house):
    job = house.claimed()
    house.clock.advance(3600)

    class Late(SqliteJobs):
        """The worker comes back between the sweep's look and its change."""

        def due(
            self, now: datetime, *, limit: int, statuses: Collection[JobStatus]
        ) -> Sequence[Job]:
            seen = super().due(now, limit=limit, statuses=statuses)
            if seen:
                house.lifecycle.complete(
                    job.id, token=job.lease.token, artifacts=(), summary=SUMMARY
                )
            return seen

    with closing(Late(house.folder / "jobs.sqlite3")) as store:
        assert not replace(house.lifecycle, store=store).sweep()
    assert house.store.get(job.id).status is JobStatus.FINISHED
    assert house.ended(JobStatus.FINISHED) == 1


def test_a_dead_letter_leaves_a_job_in_work_and_an_ended_job_alone(house):
    leased, canceled = house.claimed(), house.submit()
    house.lifecycle.cancel(canceled.id, owner="ada")
    before = [house.store.get(job.id) for job in (leased, canceled)]
    house.kill_message()
    assert not house.lifecycle.sweep()
    assert [house.store.get(job.id) for job in (leased, canceled)] == before
    assert not house.queue.dead_letters(limit=9)


def test_a_dead_letter_of_a_forgotten_job_is_dropped(house):
    house.queue.publish(TOPIC_GPU, Message(job_id="job_unknown"))
    house.kill_message()
    assert not house.lifecycle.sweep()
    assert not house.queue.dead_letters(limit=9)


def test_artifacts_are_removed_after_their_retention_and_the_job_after_its_own(house):
    job = house.finished()
    file = house.folder / "artifacts" / "bucket" / job.artifacts[0].key
    house.clock.advance(7 * DAY_SECONDS - 1)
    assert not house.lifecycle.sweep()
    assert file.exists()

    house.clock.advance(1)
    assert house.lifecycle.sweep().expired == 1
    assert not file.exists()
    remembered = house.lifecycle.get(job.id, owner="ada")
    assert (remembered.status, remembered.artifacts) == (JobStatus.FINISHED, ())
    assert remembered.artifacts_expired_at == house.clock()

    house.clock.advance(23 * DAY_SECONDS)
    assert house.lifecycle.sweep().forgotten == 1
    with pytest.raises(JobNotFound):
        house.lifecycle.get(job.id, owner="ada")
    assert not house.lifecycle.sweep()


def test_a_job_that_cannot_be_swept_does_not_keep_the_others_waiting(house):
    stuck, other = house.finished(), house.finished()
    house.artifacts.stuck = frozenset({stuck.artifacts[0].key})
    house.clock.advance(7 * DAY_SECONDS)
    silent = house.claimed()
    house.clock.advance(30)
    report = house.lifecycle.sweep()
    assert (report.expired, report.requeued) == (2, 1)
    assert house.store.get(silent.id).status is JobStatus.QUEUED
    assert house.store.get(other.id).artifacts == ()

    house.artifacts.stuck = frozenset()
    assert house.lifecycle.sweep().tidied == 1
    assert house.store.get(stuck.id).artifacts == ()


def test_overdue_files_hide_no_job_whose_worker_is_gone(house, monkeypatch):
    monkeypatch.setattr(sweep_module, "_JOBS", 2)
    overdue = [house.finished() for _ in range(5)]
    house.artifacts.stuck = frozenset(job.artifacts[0].key for job in overdue)
    house.clock.advance(7 * DAY_SECONDS)
    silent = house.claimed()
    house.clock.advance(3600)
    assert house.lifecycle.sweep().requeued == 1
    assert house.store.get(silent.id).status is JobStatus.QUEUED

    house.artifacts.stuck = frozenset()
    house.lifecycle.sweep()
    assert [house.store.get(job.id).artifacts for job in overdue] == [()] * 5


def test_a_queue_that_is_away_keeps_no_file_beyond_its_retention(house, monkeypatch):
    job = house.finished()
    house.clock.advance(7 * DAY_SECONDS)
    monkeypatch.setattr(
        house.queue, "dead_letters", Mock(side_effect=QueueUnavailable("it is away"))
    )
    with pytest.raises(QueueUnavailable):
        house.lifecycle.sweep()
    assert house.store.get(job.id).artifacts == ()


def test_files_that_cannot_be_removed_do_not_keep_a_sweep_going(house, monkeypatch):
    monkeypatch.setattr(sweep_module, "_JOBS", 2)
    stuck, *_ = [house.finished() for _ in range(3)]
    house.artifacts.stuck = frozenset({stuck.artifacts[0].key})
    house.clock.advance(7 * DAY_SECONDS)
    assert house.lifecycle.sweep().expired == 3
    assert not house.lifecycle.sweep()


def test_one_jobs_files_do_not_wait_for_anothers(house):
    """Which is what makes a bucket that takes its time bearable."""
    for _ in range(4):
        house.finished()
    house.artifacts.meeting = Barrier(4, timeout=30)
    house.clock.advance(7 * DAY_SECONDS)
    assert house.lifecycle.sweep().expired == 4
    assert not house.artifacts.meeting.broken


def test_two_sweeps_at_once_lose_and_double_nothing(house):
    jobs = [house.claimed() for _ in range(10)]
    house.messages()
    house.clock.advance(30)
    with ThreadPoolExecutor(2) as threads:
        for sweeping in [threads.submit(house.lifecycle.sweep) for _ in range(2)]:
            sweeping.result(timeout=30)
    stored = [house.store.get(job.id) for job in jobs]
    assert {(job.status, job.attempt) for job in stored} == {(JobStatus.QUEUED, 1)}
    assert set(house.messages()) == {job.id for job in jobs}


# --- what is written down


# --- a picture to begin with

PICTURE = StartingPicture(content=b"a picture", content_type="image/png", extension="png")


def kept_picture(house):
    return [key for key in house.artifacts.keys("videos") if "first_frame" in key]


def test_the_picture_is_there_before_a_worker_is_woken(house, tmp_path):
    job = house.submit(picture=PICTURE)
    assert kept_picture(house) == list(job.input_keys)
    house.artifacts.fetch(job.input_keys[0], tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == b"a picture"


def test_a_picture_that_cannot_be_kept_leaves_no_job(house):
    house.artifacts.full = True
    with pytest.raises(ArtifactStoreUnavailable):
        house.submit(picture=PICTURE, idempotency_key="k")
    assert sum(house.store.counts().values()) == 0
    assert house.messages() == []
    house.artifacts.full = False
    assert house.submit(picture=PICTURE, idempotency_key="k").status is JobStatus.QUEUED


def test_the_picture_of_a_video_that_nobody_began_goes_with_the_sweep(house):
    job = house.submit(picture=PICTURE)
    house.lifecycle.cancel(job.id, owner="ada")
    house.clock.advance(60)
    house.lifecycle.sweep()
    assert not kept_picture(house)


# --- delete and list


def test_a_deleted_video_is_gone_with_its_files_and_its_key_is_used_up(house):
    submitted = house.submit(idempotency_key="k")
    job = house.lifecycle.claim(submitted.id, worker="w1")
    clip = house.stored_clip(job)
    house.lifecycle.complete(job.id, token=job.lease.token, artifacts=(clip,), summary=SUMMARY)
    house.lifecycle.delete(job.id, owner="ada")
    assert not house.artifacts.keys("videos")
    for call in (house.lifecycle.get, house.lifecycle.cancel, house.lifecycle.delete):
        with pytest.raises(JobNotFound):
            call(job.id, owner="ada")
    with pytest.raises(IdempotencyConflict, match="a deleted video"):
        house.submit(idempotency_key="k")
    assert house.store.get(job.id).status is JobStatus.FINISHED
    house.clock.advance(31 * DAY_SECONDS)
    assert house.lifecycle.sweep().forgotten == 1


def test_another_owners_video_cannot_be_deleted(house):
    job = house.finished()
    with pytest.raises(JobNotFound):
        house.lifecycle.delete(job.id, owner="bob")
    assert house.lifecycle.get(job.id, owner="ada").artifacts


def test_a_queued_video_that_is_deleted_is_never_rendered(house):
    job = house.submit()
    house.lifecycle.delete(job.id, owner="ada")
    assert house.ended(JobStatus.CANCELED) == 1
    with pytest.raises(JobAlreadyTerminal):
        house.lifecycle.claim(job.id, worker="w1")


def test_a_running_video_that_is_deleted_is_stopped_and_what_came_too_late_is_removed(house):
    canceled, finished = house.claimed(), house.claimed()
    for job in (canceled, finished):
        house.lifecycle.delete(job.id, owner="ada")
        heard = house.lifecycle.heartbeat(job.id, token=job.lease.token)
        assert heard.cancel_requested_at is not None
    house.lifecycle.acknowledge_cancel(canceled.id, token=canceled.lease.token)
    clip = house.stored_clip(finished)
    house.lifecycle.complete(
        finished.id, token=finished.lease.token, artifacts=(clip,), summary=SUMMARY
    )
    house.clock.advance(60)
    assert house.lifecycle.sweep().tidied == 2
    assert not house.artifacts.keys("videos")


def test_files_that_cannot_be_removed_at_once_are_removed_by_the_sweep(house):
    job = house.finished()
    house.artifacts.stuck = frozenset({job.artifacts[0].key})
    house.lifecycle.delete(job.id, owner="ada")
    assert house.artifacts.keys("videos")
    house.artifacts.stuck = frozenset()
    house.clock.advance(60)
    assert house.lifecycle.sweep().tidied == 1
    assert not house.artifacts.keys("videos")


@pytest.mark.parametrize("newest_first", [True, False])
def test_deleted_videos_leave_no_holes_in_the_pages_of_a_list(house, newest_first):
    ids = []
    for _ in range(9):
        house.clock.advance(1)
        ids.append(house.submit().id)
    deleted = [ids[0], ids[3], ids[4], ids[5], ids[8]]
    for job_id in deleted:
        house.lifecycle.delete(job_id, owner="ada")
    left = [job_id for job_id in ids if job_id not in deleted]
    seen, after, more = [], None, True
    while more:
        page = house.lifecycle.list("ada", limit=2, after=after, newest_first=newest_first)
        seen += [job.id for job in page.jobs]
        after, more = page.jobs[-1].id, page.has_more
    assert seen == (left[::-1] if newest_first else left)
    assert not house.lifecycle.list("bob", limit=2).jobs


@pytest.fixture
def log_lines(monkeypatch) -> Iterator[Callable[[], list[dict]]]:
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("json", service="test")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    # A logger remembers the configuration of its first line.
    for log in (lifecycle_module.log, job_events_module.log):
        vars(log).pop("bind", None)


def test_the_log_tells_a_jobs_whole_life_and_never_its_prompt(house, log_lines):
    house.finished()
    retried = house.claimed(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    house.lifecycle.fail(retried.id, token=retried.lease.token, error=BackendUnavailable("busy"))
    house.lifecycle.cancel(retried.id, owner="ada")
    house.queue.down = True
    house.submit()
    house.clock.advance(10)
    house.lifecycle.sweep()
    lines = log_lines()
    assert [line["message"] for line in lines] == [
        *("job accepted", "job claimed", "job ended"),
        *("job accepted", "job claimed", "job goes back to the queue", "job ended"),
        *("job accepted", "job not published yet", "job not swept"),
    ]
    assert "otter" not in json.dumps(lines)
    told = [line for line in lines if "outcome" in line]
    assert [line["outcome"] for line in told] == [
        *("queued", "started", "finished"),
        *("queued", "started", "queued", "canceled"),
        "queued",
    ]
    assert {line["request_id"] for line in told} == {"req_1"}
    assert len({line["prompt_hash"] for line in told}) == 1
    assert told[2]["generation_time_seconds"] == 2.0
    assert told[5]["code"] == "backend_unavailable"
    assert told[5]["trace"] == "a" * 32


def test_the_log_tells_what_a_job_has_waited_and_cost(house, log_lines):
    job = house.submit()
    house.clock.advance(3)
    token = house.lifecycle.claim(job.id, worker="w1").lease.token
    house.lifecycle.release(job.id, token=token)
    house.clock.advance(1)
    token = house.lifecycle.claim(job.id, worker="w2").lease.token
    house.clock.advance(6)
    on_an_l4 = replace(SUMMARY, device="NVIDIA L4", generation_seconds=40.0)
    house.lifecycle.complete(job.id, token=token, artifacts=(), summary=on_an_l4)
    claims = [line for line in log_lines() if line["message"] == "job claimed"]
    (end,) = [line for line in log_lines() if line["message"] == "job ended"]
    assert [line["queue_seconds"] for line in claims] == [3, None]
    assert end["total_seconds"] == 10
    assert end["cost_usd"] == pytest.approx(0.0116)
    assert house.metric("cost_usd_total", model=MODEL) == pytest.approx(0.0116)


def test_a_device_without_a_price_costs_nobody_knows_what(house, log_lines):
    house.finished()
    assert log_lines()[-1]["cost_usd"] is None
    assert house.metric("cost_usd_total", model=MODEL) == 0
