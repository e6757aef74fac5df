"""One job, and every rule about how it may change.

A transition is a pure function: it takes the stored job (and the time) and returns the job to store,
or raises and changes nothing. ``JobStore.update`` runs it inside a transaction, so the rules hold
whichever adapter stores the job, however many workers try at once.

    queued ──claim──▶ started ──report──▶ progress ──complete──▶ finished
      ▲  │               │                   │
      │  └─cancel─▶ canceled ◀─cancel────────┤
      └──────retry, release, lease expired───┴──fail, attempts used up──▶ failed
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter

from shared.errors import JobAlreadyTerminal, LeaseHeld, LeaseLost

# A submitter that died between writing the job and publishing it is noticed after this time.
PUBLISH_GRACE = timedelta(seconds=10)
# A job that went back to the queue waits for its old message, whose backoff is shorter than this. It may
# wait in vain: another worker may have acknowledged that message while the job was in work.
REQUEUE_GRACE = timedelta(seconds=60)
# A queued job nobody claimed for this long gets a second message, in case the first was lost.
REPUBLISH_AFTER = timedelta(hours=1)
# An upload still under way when its job ended has arrived, or has failed, after this time.
UPLOAD_GRACE = timedelta(seconds=60)


class JobStatus(StrEnum):
    QUEUED = "queued"  # accepted and stored; no worker has it
    STARTED = "started"  # a worker holds its lease; nothing is rendered yet
    PROGRESS = "progress"  # the worker has reported progress
    FINISHED = "finished"  # its artifacts are stored
    FAILED = "failed"  # it ended without a result; ``error`` says why
    CANCELED = "canceled"  # it was stopped on request

    @property
    def is_terminal(self) -> bool:
        return self in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED}


class Phase(StrEnum):
    PLAN = "plan"
    KEYFRAMES = "keyframes"
    GENERATION = "generation"
    STITCH = "stitch"
    UPLOAD = "upload"


# What part of the whole, in percent, each phase is: (from, to).
PHASE_SPANS: Mapping[Phase, tuple[int, int]] = MappingProxyType(
    {
        Phase.PLAN: (0, 2),
        Phase.KEYFRAMES: (2, 5),
        Phase.GENERATION: (5, 85),
        Phase.STITCH: (85, 97),
        Phase.UPLOAD: (97, 99),
    }
)


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """What to render, settled at submission: a retry renders the same video."""

    prompt: str
    model: str  # a name in the catalog
    duration_seconds: int
    resolution: str  # one of the model's public names, "480p"
    preset: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long a job is kept after it has ended."""

    artifact_seconds: int
    job_seconds: int


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A worker's time-limited right to a job, held by a random token."""

    token: str
    worker: str
    claimed_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored file of a finished job."""

    kind: str  # "video", "poster", "spritesheet"
    key: str  # its name in the artifact store
    uri: str  # "gs://bucket/key", or "local://bucket/key"
    content_type: str
    size_bytes: int
    sha256: str
    width: int  # pixels
    height: int


@dataclass(frozen=True, kw_only=True)
class RenderSummary:
    """What a finished render was and took."""

    device: str
    frames: int
    fps: int
    native_size: str  # "416x240": what the model rendered
    output_size: str  # "832x480": what the file holds
    generation_seconds: float  # of the attempt that succeeded: claim to encoded file
    phase_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed, as its owner may read it."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted request and everything known about it. Times are aware and in UTC."""

    id: str
    owner: str
    request: RenderRequest
    request_hash: str
    request_id: str  # of the HTTP request that made it
    created_at: datetime
    max_attempts: int
    retention: Retention
    idempotency_key: str | None = None
    traceparent: str | None = None
    status: JobStatus = JobStatus.QUEUED
    phase: Phase | None = None
    progress: int = 0  # percent
    attempt: int = 0
    lease: Lease | None = None
    published_at: datetime | None = None
    message_due_at: datetime | None = None  # after it went back: when to send a message of its own
    started_at: datetime | None = None  # of the first attempt
    finished_at: datetime | None = None  # when it became terminal
    cancel_requested_at: datetime | None = None
    artifacts: tuple[Artifact, ...] = ()  # expired ones too, until their files are removed
    artifacts_expired_at: datetime | None = None
    leftovers: bool = False  # files may be in the artifact store that are nobody's result
    summary: RenderSummary | None = None
    error: JobError | None = None

    @property
    def due_at(self) -> datetime:
        """When the sweep must next look at this job, whatever its state."""
        if self.finished_at is not None:
            return self.finished_at + self._kept
        if self.lease is not None:
            return self.lease.expires_at
        if self.published_at is None:
            return self.message_due_at or self.created_at + PUBLISH_GRACE
        return self.published_at + REPUBLISH_AFTER

    @property
    def artifacts_expire_at(self) -> datetime | None:
        """When a finished job's files are past their retention; None for any other job."""
        if self.status is not JobStatus.FINISHED or self.finished_at is None:
            return None
        return self.finished_at + timedelta(seconds=self.retention.artifact_seconds)

    def has_expired_artifacts(self, now: datetime) -> bool:
        """Past its retention a file is gone for callers, whether or not the sweep has come by."""
        if self.artifacts_expired_at is not None:
            return True
        return self.artifacts_expire_at is not None and now >= self.artifacts_expire_at

    def artifact(self, kind: str) -> Artifact | None:
        return next((artifact for artifact in self.artifacts if artifact.kind == kind), None)

    @property
    def _kept(self) -> timedelta:
        """From a job's end until the sweep must next look at it."""
        if self.leftovers and self.artifacts_expired_at is None:
            return UPLOAD_GRACE
        if self.leftovers or self.artifacts:
            return timedelta(seconds=self.retention.artifact_seconds)
        return timedelta(seconds=self.retention.job_seconds)


# --- transitions


def mark_published(job: Job, *, now: datetime) -> Job:
    """A message is on its way. A job that has ended meanwhile stays as it is."""
    if job.status.is_terminal:
        return job
    return replace(job, published_at=now)


def claim(job: Job, *, token: str, worker: str, now: datetime, lease_seconds: float) -> Job:
    """Give the job to a worker, or end it when it may not be tried again.

    The caller has the job only if the returned lease carries its token. Raises
    ``JobAlreadyTerminal``, or ``LeaseHeld`` while another worker's lease lives.
    """
    if job.status.is_terminal:
        raise JobAlreadyTerminal(job.status)
    if job.lease is not None and now < job.lease.expires_at:
        raise LeaseHeld(f"worker {job.lease.worker} has this job")
    if job.cancel_requested_at is not None:
        return _end(job, JobStatus.CANCELED, now=now)
    if job.attempt >= job.max_attempts:
        # Only a silent worker leaves a job here with all its attempts used up.
        return _end(job, JobStatus.FAILED, now=now, error=_worker_lost(job))
    expires_at = now + timedelta(seconds=lease_seconds)
    return replace(
        job,
        status=JobStatus.STARTED,
        phase=None,
        progress=0,
        attempt=job.attempt + 1,
        lease=Lease(token=token, worker=worker, claimed_at=now, expires_at=expires_at),
        started_at=job.started_at or now,
    )


def heartbeat(job: Job, *, token: str, now: datetime, lease_seconds: float) -> Job:
    """Renew the lease. Raises ``LeaseLost`` like every transition that takes a token."""
    lease = _held_lease(job, token)
    return replace(job, lease=replace(lease, expires_at=now + timedelta(seconds=lease_seconds)))


def report(
    job: Job, *, token: str, phase: Phase, fraction: float, now: datetime, lease_seconds: float
) -> Job:
    """Renew the lease and say how far the phase is, 0 to 1. Progress never goes back."""
    renewed = heartbeat(job, token=token, now=now, lease_seconds=lease_seconds)
    start, end = PHASE_SPANS[phase]
    percent = int(start + (end - start) * min(max(fraction, 0.0), 1.0))
    if percent < job.progress:
        return renewed
    return replace(renewed, status=JobStatus.PROGRESS, phase=phase, progress=percent)


def complete(
    job: Job, *, token: str, artifacts: tuple[Artifact, ...], summary: RenderSummary, now: datetime
) -> Job:
    """The artifacts are stored: the job is finished, even if a cancel came too late."""
    _held_lease(job, token)
    ended = _end(job, JobStatus.FINISHED, now=now)
    return replace(ended, progress=100, artifacts=artifacts, summary=summary)


def fail(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """It failed for good: the requester's fault, or nothing a retry would mend."""
    _held_lease(job, token)
    return _end(job, JobStatus.FAILED, now=now, error=error)


def retry(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """It failed and may be tried again; without attempts left it has failed for good."""
    _held_lease(job, token)
    return _requeue(job, error=error, now=now, message_due_at=now + REQUEUE_GRACE)


def release(job: Job, *, token: str, now: datetime) -> Job:
    """Hand the job back unharmed: the worker is going down. Costs no attempt."""
    _held_lease(job, token)
    unharmed = replace(job, attempt=job.attempt - 1)
    return _requeue(unharmed, error=job.error, now=now, message_due_at=now + REQUEUE_GRACE)


def request_cancel(job: Job, *, now: datetime) -> Job:
    """Cancel at once if nobody renders it, else ask the worker. Raises ``JobAlreadyTerminal``."""
    if job.status.is_terminal:
        raise JobAlreadyTerminal(job.status)
    if job.lease is None or now >= job.lease.expires_at:
        return _end(job, JobStatus.CANCELED, now=now)
    return replace(job, cancel_requested_at=job.cancel_requested_at or now)


def acknowledge_cancel(job: Job, *, token: str, now: datetime) -> Job:
    """The worker has stopped the render."""
    _held_lease(job, token)
    return _end(job, JobStatus.CANCELED, now=now)


def requeue_expired(job: Job, *, now: datetime) -> Job:
    """Take the job back from a worker that went silent; anything else is left as it is."""
    if job.lease is None or job.status.is_terminal or now < job.lease.expires_at:
        return job
    return _requeue(job, error=_worker_lost(job), now=now, message_due_at=now)


def dead_letter(job: Job, *, now: datetime) -> Job:
    """Its message was given up by the queue: the job has ended, unless it is done or in work."""
    if job.status.is_terminal or (job.lease is not None and now < job.lease.expires_at):
        return job
    if job.cancel_requested_at is not None:
        return _end(job, JobStatus.CANCELED, now=now)
    error = job.error or JobError(
        code="undeliverable", message="No worker could take the job. Submit it again."
    )
    return _end(job, JobStatus.FAILED, now=now, error=error)


def expire_artifacts(job: Job, *, now: datetime) -> Job:
    """The files are past their retention: nobody is led to them any more, and they can be removed.

    The job goes on naming them until ``leftovers_removed``: a sweep may be killed in between.
    """
    if not job.artifacts or job.artifacts_expired_at is not None:
        return job
    return replace(job, artifacts_expired_at=now, leftovers=True)


def leftovers_removed(job: Job) -> Job:
    """Every file that was nobody's result is gone; the job is remembered a while longer."""
    return replace(job, artifacts=(), leftovers=False) if job.leftovers else job


def _held_lease(job: Job, token: str) -> Lease:
    # An expired lease still counts while nobody else has taken the job: the token is the fence.
    if job.status.is_terminal or job.lease is None or job.lease.token != token:
        raise LeaseLost("the job is no longer this worker's")
    return job.lease


def _requeue(job: Job, *, error: JobError | None, now: datetime, message_due_at: datetime) -> Job:
    if job.cancel_requested_at is not None:
        return _end(job, JobStatus.CANCELED, now=now)
    if job.attempt >= job.max_attempts:
        return _end(job, JobStatus.FAILED, now=now, error=error)
    return replace(
        job,
        status=JobStatus.QUEUED,
        phase=None,
        progress=0,
        lease=None,
        error=error,
        published_at=None,
        message_due_at=message_due_at,
    )


def _end(job: Job, status: JobStatus, *, now: datetime, error: JobError | None = None) -> Job:
    # A worker that was killed while it uploaded has left files; one that is late may yet do so.
    leftovers = status is not JobStatus.FINISHED and job.started_at is not None
    return replace(
        job,
        status=status,
        phase=None,
        lease=None,
        finished_at=now,
        error=error,
        leftovers=leftovers,
    )


def _worker_lost(job: Job) -> JobError:
    return JobError(
        code="worker_lost",
        message=f"The worker disappeared during attempt {job.attempt} of {job.max_attempts}.",
    )


# --- names and stored form


def artifact_folder(job: Job, *, prefix: str) -> str:
    """Where the job's files are kept, and nobody else's."""
    return f"{prefix}/{job.created_at:%Y-%m}/{job.id}"


def artifact_key(job: Job, *, prefix: str, name: str) -> str:
    """Where a file of the job is kept: the same for every attempt, so the first one stays."""
    return f"{artifact_folder(job, prefix=prefix)}/{name}"


def hash_request(body: Mapping[str, Any]) -> str:
    """A fingerprint of a create request: equal for equal bodies, whatever the order of keys."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_document(job: Job) -> str:
    """The job as JSON text."""
    return _adapter().dump_json(job).decode()


def from_document(document: str | bytes) -> Job:
    return _adapter().validate_json(document)


@cache
def _adapter() -> TypeAdapter[Job]:
    return TypeAdapter(Job)
