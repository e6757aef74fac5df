"""Every rule about how a job may change.

A transition is a pure function: it takes the stored job (and the time) and returns the job to store,
or raises and changes nothing. ``JobStore.update`` runs it inside a transaction, so the rules hold
whichever adapter stores the job, however many workers try at once.

    queued ──claim──▶ started ──report──▶ progress ──complete──▶ finished
      ▲  │               │                   │
      │  └─cancel─▶ canceled ◀─cancel────────┤
      └──────retry, release, lease expired───┴──fail, attempts used up──▶ failed
"""

from collections.abc import Container
from dataclasses import replace
from datetime import datetime, timedelta

from shared.errors import JobAlreadyTerminal, LeaseHeld, LeaseLost, OtherWorkersJob
from shared.job import (
    PHASE_SPANS,
    PUBLISH_GRACE,
    Artifact,
    Job,
    JobError,
    JobStatus,
    Lease,
    Phase,
    RenderRequest,
    RenderSummary,
)
from shared.webhook import Webhook, WebhookStatus

# A job that went back to the queue waits for its old message, whose backoff is shorter than this. It may
# wait in vain: another worker may have acknowledged that message while the job was in work.
REQUEUE_GRACE = timedelta(seconds=60)


def mark_published(job: Job, *, now: datetime) -> Job:
    """A message is on its way. A job that has ended meanwhile stays as it is."""
    if job.status.is_terminal:
        return job
    return replace(job, published_at=now)


def claim(
    job: Job,
    *,
    token: str,
    worker: str,
    now: datetime,
    lease_seconds: float,
    models: Container[str] | None = None,
) -> Job:
    """Give the job to a worker, or end it when it may not be tried again.

    The caller has the job only if the returned lease carries its token. Raises
    ``JobAlreadyTerminal``, ``LeaseHeld`` while another worker's lease lives, and ``OtherWorkersJob``
    for one of another model than those.
    """
    if models is not None and job.request.model not in models:
        raise OtherWorkersJob("the job has moved to another topic")
    if job.status.is_terminal:
        raise JobAlreadyTerminal(job.status)
    if job.lease is not None and now < job.lease.expires_at:
        raise LeaseHeld(f"worker {job.lease.worker} has this job")
    if job.cancel_requested_at is not None:
        return ended(job, JobStatus.CANCELED, now=now)
    if job.attempt >= job.max_attempts:
        # Only a silent worker leaves a job here with all its attempts used up.
        return ended(job, JobStatus.FAILED, now=now, error=_worker_lost(job))
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
    lease = held_lease(job, token)
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
    job: Job,
    *,
    token: str,
    artifacts: tuple[Artifact, ...],
    summary: RenderSummary | None,
    now: datetime,
) -> Job:
    """The artifacts are stored: the job is finished, even if a cancel came too late."""
    held_lease(job, token)
    end = ended(job, JobStatus.FINISHED, now=now)
    finished = replace(end, progress=100, artifacts=artifacts, summary=summary)
    # Its owner wants it no more: what it has made goes at once.
    return finished if job.hidden_at is None else expire_artifacts(finished, now=now)


def fail(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """It failed for good: the requester's fault, or nothing a retry would mend."""
    held_lease(job, token)
    return ended(job, JobStatus.FAILED, now=now, error=error)


def retry(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """It failed and may be tried again; without attempts left it has failed for good."""
    held_lease(job, token)
    return _requeue(job, error=error, now=now, message_due_at=now + REQUEUE_GRACE)


def fall_back(
    job: Job, *, token: str, error: JobError, request: RenderRequest, now: datetime
) -> Job:
    """It failed and another backend is to try, with all its attempts: at once, by a new message."""
    held_lease(job, token)
    handed_over = replace(job, request=request, attempt=0, fallen_back_from=job.request.model)
    return _requeue(handed_over, error=error, now=now, message_due_at=now)


def release(job: Job, *, token: str, now: datetime) -> Job:
    """Hand the job back unharmed: the worker is going down. Costs no attempt."""
    held_lease(job, token)
    unharmed = replace(job, attempt=job.attempt - 1)
    return _requeue(unharmed, error=job.error, now=now, message_due_at=now + REQUEUE_GRACE)


def request_cancel(job: Job, *, now: datetime) -> Job:
    """Cancel at once if nobody renders it, else ask the worker. Raises ``JobAlreadyTerminal``."""
    if job.status.is_terminal:
        raise JobAlreadyTerminal(job.status)
    if job.lease is None or now >= job.lease.expires_at:
        return ended(job, JobStatus.CANCELED, now=now)
    return replace(job, cancel_requested_at=job.cancel_requested_at or now)


def hide(job: Job, *, now: datetime) -> Job:
    """Its owner has deleted it: it is to end if it has not, and nobody is told of it or led to its files.

    The job itself is kept as long as any, and its Idempotency-Key with it.
    """
    hidden = replace(job, hidden_at=job.hidden_at or now, webhook=None)
    if job.status.is_terminal:
        return expire_artifacts(hidden, now=now)
    return request_cancel(hidden, now=now)


def acknowledge_cancel(job: Job, *, token: str, now: datetime) -> Job:
    """The worker has stopped the render."""
    held_lease(job, token)
    return ended(job, JobStatus.CANCELED, now=now)


def end_lease(job: Job, *, worker: str, now: datetime) -> Job:
    """That worker has died: nobody waits for the end of its lease. Any other's stays."""
    if job.status.is_terminal or job.lease is None or job.lease.worker != worker:
        return job
    return replace(job, lease=replace(job.lease, expires_at=min(job.lease.expires_at, now)))


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
        return ended(job, JobStatus.CANCELED, now=now)
    error = job.error or JobError(
        code="undeliverable", message="No worker could take the job. Submit it again."
    )
    return ended(job, JobStatus.FAILED, now=now, error=error)


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


def held_lease(job: Job, token: str) -> Lease:
    """Raises ``LeaseLost`` unless it is this token's."""
    # An expired lease still counts while nobody else has taken the job: the token is the fence.
    if job.status.is_terminal or job.lease is None or job.lease.token != token:
        raise LeaseLost("the job is no longer this worker's")
    return job.lease


def _requeue(job: Job, *, error: JobError | None, now: datetime, message_due_at: datetime) -> Job:
    if job.cancel_requested_at is not None:
        return ended(job, JobStatus.CANCELED, now=now)
    if job.attempt >= job.max_attempts:
        return ended(job, JobStatus.FAILED, now=now, error=error)
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


def ended(job: Job, status: JobStatus, *, now: datetime, error: JobError | None = None) -> Job:
    """What is common to every end."""
    # A worker that was killed while it uploaded has left files; one that is late may yet do so.
    may_have_files = job.started_at is not None or bool(job.input_keys)
    leftovers = status is not JobStatus.FINISHED and may_have_files
    return replace(
        job,
        status=status,
        phase=None,
        lease=None,
        finished_at=now,
        error=error,
        leftovers=leftovers,
        webhook=_to_be_sent(job, now=now),
    )


def _to_be_sent(job: Job, *, now: datetime) -> Webhook | None:
    """Whoever stores the end sends a message for it; if that one dies in between, the sweep does."""
    if job.webhook is None:
        return None
    return replace(job.webhook, status=WebhookStatus.PENDING, due_at=now + PUBLISH_GRACE)


def _worker_lost(job: Job) -> JobError:
    return JobError(
        code="worker_lost",
        message=f"The worker disappeared during attempt {job.attempt} of {job.max_attempts}.",
    )
