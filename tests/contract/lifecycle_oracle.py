"""What must have become of a job, whatever has happened: written from ARCHITECTURE.md alone.

It uses no rule of ``shared/transitions.py``: it says the same in the plainest way there is, one job in one
mutable record. Each method of ``Oracle`` is something that happens; it returns the code of the error
the caller must get, or None.
"""

from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.errors import PromptreelError
from shared.job import Artifact, Job
from tests.contract.weakest_queue import Weather

LEASE = timedelta(seconds=30)
PUBLISH_GRACE = timedelta(seconds=10)
REQUEUE_GRACE = timedelta(seconds=60)
REPUBLISH_AFTER = timedelta(hours=1)
ARTIFACTS_KEPT = timedelta(days=1)
JOB_KEPT = timedelta(days=2)
MAX_ATTEMPTS = 2

# What part of the whole, in percent, each phase is.
PERCENT = {
    "plan": (0, 2),
    "keyframes": (2, 5),
    "generation": (5, 85),
    "stitch": (85, 97),
    "upload": (97, 99),
}


@dataclass
class ExpectedJob:
    owner: str
    prompt: str
    idempotency_key: str | None
    created_at: datetime
    status: str = "queued"
    attempt: int = 0
    phase: str | None = None
    progress: int = 0
    worker: str | None = None
    token: str | None = None
    leased_until: datetime | None = None
    published_at: datetime | None = None  # while it has not ended
    message_due_at: datetime | None = None  # while it has not ended
    cancel_requested: bool = False
    error: str | None = None
    ended_at: datetime | None = None
    has_artifacts: bool = False
    # It may be gone from now on, and is after some more sweeps.
    forgettable: bool = field(default=False, compare=False, repr=False)

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None

    def is_in_work(self, now: datetime) -> bool:
        return self.leased_until is not None and now < self.leased_until

    def leave_worker(self) -> None:
        self.worker = self.token = self.leased_until = self.phase = None

    def end(self, status: str, now: datetime, error: str | None = None) -> None:
        self.leave_worker()
        self.status, self.error, self.ended_at = status, error, now
        self.published_at = self.message_due_at = None

    def go_back(self, now: datetime, error: str | None) -> None:
        """To the queue, if it may be tried again and nobody has asked to stop it."""
        if self.cancel_requested:
            self.end("canceled", now)
        elif self.attempt == MAX_ATTEMPTS:
            self.end("failed", now, error)
        else:
            self.leave_worker()
            self.status, self.progress, self.error = "queued", 0, error
            # Its old message may be gone: if nobody comes with it, another is sent.
            self.published_at, self.message_due_at = None, now + REQUEUE_GRACE


def as_expected(job: Job) -> ExpectedJob:
    """What the oracle knows of a job."""
    lease = job.lease
    return ExpectedJob(
        owner=job.owner,
        prompt=job.request.prompt,
        idempotency_key=job.idempotency_key,
        created_at=job.created_at,
        status=job.status.value,
        attempt=job.attempt,
        phase=job.phase.value if job.phase else None,
        progress=job.progress,
        worker=lease.worker if lease else None,
        token=lease.token if lease else None,
        leased_until=lease.expires_at if lease else None,
        published_at=None if job.status.is_terminal else job.published_at,
        message_due_at=None if job.status.is_terminal else job.message_due_at,
        cancel_requested=job.cancel_requested_at is not None,
        error=job.error.code if job.error else None,
        ended_at=job.finished_at,
        has_artifacts=bool(job.artifacts),
    )


class Oracle:
    """Every job that is remembered, by its id."""

    def __init__(self) -> None:
        self.jobs: dict[str, ExpectedJob] = {}

    # --- the caller's side

    def known_by(self, owner: str, key: str | None) -> str | None:
        """The job this owner's Idempotency-Key stands for."""
        found = [
            job_id
            for job_id, job in self.jobs.items()
            if key is not None and (job.owner, job.idempotency_key) == (owner, key)
        ]
        assert len(found) <= 1
        return found[0] if found else None

    def submit(self, job_id: str, job: ExpectedJob) -> str | None:
        known = self.known_by(job.owner, job.idempotency_key)
        if known is None:
            self.jobs[job_id] = job
            return None
        return None if self.jobs[known].prompt == job.prompt else "idempotency_conflict"

    def get(self, job_id: str, owner: str) -> str | None:
        job = self.jobs.get(job_id)
        return None if job is not None and job.owner == owner else "job_not_found"

    def cancel(self, job_id: str, owner: str, now: datetime) -> str | None:
        if refusal := self.get(job_id, owner):
            return refusal
        job = self.jobs[job_id]
        if job.status in ("finished", "failed"):
            return "job_already_terminal"
        if job.is_in_work(now):
            job.cancel_requested = True
        elif not job.has_ended:
            job.end("canceled", now)
        return None

    # --- the queue's

    def published(self, job_id: str, now: datetime, weather: Weather) -> None:
        """Somebody tried to publish the job; it counts only if the publisher lives to hear of it."""
        if weather in (Weather.FAIR, Weather.TAKEN_AT_ONCE):
            self.jobs[job_id].published_at = now

    # --- the worker's side

    def claim(self, job_id: str, worker: str, token: str | None, now: datetime) -> str | None:
        """``token`` is what the worker got, if it got any."""
        job = self.jobs.get(job_id)
        if job is None:
            return "job_not_found"
        if job.has_ended:
            return "job_already_terminal"
        if job.is_in_work(now):
            return "lease_held"
        if job.cancel_requested:
            job.end("canceled", now)
        elif job.attempt == MAX_ATTEMPTS:
            job.end("failed", now, "worker_lost")
        else:
            job.attempt += 1
            job.status, job.phase, job.progress = "started", None, 0
            job.worker, job.token, job.leased_until = worker, token, now + LEASE
        return None

    def fence(self, job_id: str, token: str) -> str | None:
        """Only the worker that claimed the job last may say anything about it."""
        job = self.jobs.get(job_id)
        if job is None:
            return "job_not_found"
        return None if job.token == token else "lease_lost"

    def heartbeat(self, job_id: str, token: str, now: datetime) -> str | None:
        refusal = self.fence(job_id, token)
        if refusal is None:
            self.jobs[job_id].leased_until = now + LEASE
        return refusal

    def report(
        self, job_id: str, token: str, now: datetime, *, phase: str, fraction: float
    ) -> str | None:
        refusal = self.heartbeat(job_id, token, now)
        if refusal is None:
            job = self.jobs[job_id]
            start, end = PERCENT[phase]
            percent = int(start + (end - start) * sorted([0.0, fraction, 1.0])[1])
            if percent >= job.progress:
                job.status, job.phase, job.progress = "progress", phase, percent
        return refusal

    def complete(
        self,
        job_id: str,
        token: str,
        now: datetime,
        *,
        artifacts: tuple[Artifact, ...],
        **_details: object,
    ) -> str | None:
        refusal = self.fence(job_id, token)
        if refusal is None:
            job = self.jobs[job_id]
            job.end("finished", now)
            job.progress, job.has_artifacts = 100, bool(artifacts)
        return refusal

    def fail(self, job_id: str, token: str, now: datetime, *, error: PromptreelError) -> str | None:
        refusal = self.fence(job_id, token)
        if refusal is None and error.retry:
            self.jobs[job_id].go_back(now, error.code)
        elif refusal is None:
            self.jobs[job_id].end("failed", now, error.code)
        return refusal

    def release(self, job_id: str, token: str, now: datetime) -> str | None:
        refusal = self.fence(job_id, token)
        if refusal is None:
            job = self.jobs[job_id]
            job.attempt -= 1
            job.go_back(now, job.error)
        return refusal

    def acknowledge_cancel(self, job_id: str, token: str, now: datetime) -> str | None:
        refusal = self.fence(job_id, token)
        if refusal is None:
            self.jobs[job_id].end("canceled", now)
        return refusal

    # --- the sweep

    def matters_at(self, job_id: str) -> datetime:
        """When nothing but time makes a difference to the job."""
        job = self.jobs[job_id]
        if job.ended_at is not None:
            return job.ended_at + (ARTIFACTS_KEPT if job.has_artifacts else JOB_KEPT)
        if job.leased_until is not None:
            return job.leased_until
        if job.published_at is None:
            return job.message_due_at or job.created_at + PUBLISH_GRACE
        return job.published_at + REPUBLISH_AFTER

    def sweep(self, job_id: str, now: datetime) -> bool:
        """True if the job must be published now."""
        job = self.jobs[job_id]
        if job.ended_at is not None:
            # What is kept is kept from its end on: the artifacts for a while, the job for longer.
            job.has_artifacts = job.has_artifacts and now < job.ended_at + ARTIFACTS_KEPT
            job.forgettable = now >= job.ended_at + JOB_KEPT
            return False
        if now < self.matters_at(job_id):
            return False
        if job.token is not None:
            job.go_back(now, "worker_lost")
            if not job.has_ended:
                job.message_due_at = now  # its message is sent at once
        return not job.has_ended

    def bury(self, job_id: str, now: datetime) -> None:
        """The queue has given its message up."""
        job = self.jobs.get(job_id)
        if job is None or job.has_ended or job.is_in_work(now):
            return
        if job.cancel_requested:
            job.end("canceled", now)
        else:
            job.end("failed", now, job.error or "undeliverable")

    # --- where more than one thing is right

    def snapshot(self) -> dict[str, ExpectedJob]:
        return {job_id: copy(job) for job_id, job in self.jobs.items()}

    def follow(self, found: dict[str, ExpectedJob], before: dict[str, ExpectedJob]) -> None:
        """Believe what was found if it is allowed.

        What may be forgotten may be gone or still be there; a sweep that died has left any job as it
        was ``before``, or as it should be now.
        """
        for job_id, expected in self.snapshot().items():
            if job_id not in found and expected.forgettable:
                del self.jobs[job_id]
            elif job_id in found and found[job_id] == before.get(job_id):
                self.jobs[job_id] = before[job_id]
