"""Every rule about how the job of a picture may change; what it shares with a video's is imported.

    queued ──heard of: it runs──▶ started ──take──▶ progress ──complete──▶ finished
      │                              ▲  │               │
      │                              └──│── put_back ───┤
      └── cancel, heard of: it ended ───┴───────────────┴──▶ canceled, failed

Most of the time a provider has the job, and nobody here holds a lease. Once its pictures are ready,
one takes the lease and brings them home; whoever hears of them at the same time leaves it to that one.
An order that never ran is given back to its owner's month.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from shared.errors import JobAlreadyTerminal, JobNotTerminal, LeaseHeld
from shared.images.provider import Prediction, PredictionStatus
from shared.job import Job, JobError, JobStatus, Lease, RemoteWork
from shared.transitions import ended, expire_artifacts, held_lease, request_cancel


def heard_of(job: Job, *, prediction: Prediction, now: datetime) -> Job:
    """What a provider says of its order, but for pictures that are ready: those are taken.

    What comes late, twice, in the wrong order or about another order changes nothing.
    """
    remote = remote_of(job)
    if remote.prediction_id not in {None, prediction.id}:
        return job
    if job.status.is_terminal:
        # It was canceled while it was being ordered: whoever ordered it can stop it by its name.
        known = replace(remote, prediction_id=prediction.id)
        return job if remote.prediction_id else replace(job, remote=known)
    remote = replace(
        remote, prediction_id=prediction.id, heard_at=now, ran=remote.ran or prediction.ran
    )
    known_job = replace(job, remote=remote)
    match prediction.status:
        case PredictionStatus.FAILED:
            return fail(known_job, error=_why_it_failed(prediction), now=now)
        case PredictionStatus.CANCELED:
            return give_back(_closed(known_job, JobStatus.CANCELED, now=now), now=now)
        case _:
            return _running(known_job, now=now) if remote.ran else known_job


def ask(job: Job, *, now: datetime, stale_seconds: float) -> Job:
    """Whoever is to ask the provider has the returned job changed; nobody else does for a while."""
    remote = remote_of(job)
    if job.status.is_terminal or remote.prediction_id is None:
        return job
    if now - (remote.heard_at or job.created_at) < timedelta(seconds=stale_seconds):
        return job
    return replace(job, remote=replace(remote, heard_at=now))


def take(
    job: Job,
    *,
    prediction: Prediction,
    token: str,
    holder: str,
    now: datetime,
    lease_seconds: float,
) -> Job:
    """Give the pictures that are ready to one who brings them home, or end a job tried too often.

    Raises ``JobAlreadyTerminal``, and ``LeaseHeld`` while another one is at it or they are of another
    order.
    """
    if job.status.is_terminal:
        raise JobAlreadyTerminal(job.status)
    if job.lease is not None and now < job.lease.expires_at:
        raise LeaseHeld(f"{job.lease.worker} brings its pictures home")
    remote = remote_of(job)
    if remote.prediction_id not in {None, prediction.id}:
        raise LeaseHeld("another order of the provider is this job's")
    remote = replace(remote, prediction_id=prediction.id, heard_at=now, ran=True)
    if job.attempt >= job.max_attempts:
        return fail(replace(job, remote=remote), error=job.error or _NOT_BROUGHT_HOME, now=now)
    expires_at = now + timedelta(seconds=lease_seconds)
    return replace(
        job,
        status=JobStatus.PROGRESS,
        attempt=job.attempt + 1,
        started_at=job.started_at or now,
        lease=Lease(token=token, worker=holder, claimed_at=now, expires_at=expires_at),
        remote=remote,
    )


def put_back(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """They could not be brought home; they may yet be, while attempts are left. Raises ``LeaseLost``."""
    held_lease(job, token)
    if job.attempt >= job.max_attempts:
        return fail(job, error=error, now=now)
    if job.cancel_requested_at is not None:
        return _closed(job, JobStatus.CANCELED, now=now)
    remote = replace(remote_of(job), heard_at=now)
    return replace(job, status=JobStatus.STARTED, lease=None, error=error, remote=remote)


def refuse(job: Job, *, token: str, error: JobError, now: datetime) -> Job:
    """What the provider made cannot be used. Raises ``LeaseLost``."""
    held_lease(job, token)
    return fail(job, error=error, now=now)


def fail(job: Job, *, error: JobError, now: datetime) -> Job:
    """It failed for good; one that has ended stays as it is."""
    if job.status.is_terminal:
        return job
    return _closed(job, JobStatus.FAILED, now=now, error=error)


def give_up(job: Job, *, now: datetime) -> Job:
    """Nobody waits for the provider any longer, unless its pictures are on their way home."""
    if now < remote_of(job).gives_up_at or (job.lease is not None and now < job.lease.expires_at):
        return job
    seconds = round((remote_of(job).gives_up_at - job.created_at).total_seconds())
    error = JobError(
        code="provider_timeout",
        message=f"The provider did not finish within {seconds} s. Submit it again.",
    )
    return fail(job, error=job.error or error, now=now)


def cancel(job: Job, *, now: datetime) -> Job:
    """End it at once; pictures on their way home arrive. Raises ``JobAlreadyTerminal``."""
    asked = request_cancel(job, now=now)
    return _closed(job, JobStatus.CANCELED, now=now) if asked.status.is_terminal else asked


def give_back(job: Job, *, now: datetime) -> Job:
    """It never ran, as the provider says: its owner's month does not count it."""
    if job.charge is None or job.charge.given_back_at is not None or remote_of(job).ran:
        return job
    return replace(job, charge=replace(job.charge, given_back_at=now))


def delete_pictures(job: Job, *, now: datetime) -> Job:
    """Lead nobody to them any more; the files go with their retention. Raises ``JobNotTerminal``."""
    if not job.status.is_terminal:
        raise JobNotTerminal(job.status)
    return expire_artifacts(job, now=now)


def remote_of(job: Job) -> RemoteWork:
    if job.remote is None:
        raise AssertionError("no provider has a video")
    return job.remote


_NOT_BROUGHT_HOME = JobError(
    code="backend_unavailable", message="The provider's pictures could not be fetched."
)


def _running(job: Job, *, now: datetime) -> Job:
    if job.status is not JobStatus.QUEUED:
        return job
    return replace(job, status=JobStatus.STARTED, started_at=now)


def _closed(job: Job, status: JobStatus, *, now: datetime, error: JobError | None = None) -> Job:
    closed = ended(job, status, now=now, error=error)
    remote = remote_of(job)
    if not remote.ran:
        # A canceled one may be running by now: only the provider knows, and is asked.
        known_not_to_run = status is JobStatus.FAILED or remote.prediction_id is None
        closed = give_back(closed, now=now) if known_not_to_run else closed
    return closed


def _why_it_failed(prediction: Prediction) -> JobError:
    if prediction.refused:
        return JobError(
            code="prompt_refused",
            message="The provider's safety filter stopped the prompt or the picture. Change it.",
        )
    return JobError(code="provider_failed", message="The provider failed. Submit it again.")
