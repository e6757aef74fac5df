"""The life of a job, as use cases over the ports.

Each reads as the sentence it is: the rules are transitions in ``shared/job.py``, the transaction is
the store's. Whatever is lost between two steps here, the sweep finds.
"""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from shared import job as rules
from shared.admission import AdmissionLimits, configured
from shared.config import Config
from shared.dispatch import dispatch
from shared.errors import (
    JobAlreadyTerminal,
    JobNotFound,
    PromptreelError,
    TooManyJobs,
    TransientError,
)
from shared.job import Artifact, Job, JobError, JobStatus, Phase, RenderSummary
from shared.job_events import JobEvents
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.submission import Submission, settle
from shared.sweep import Sweep, SweepReport
from shared.telemetry import Metrics

log = structlog.get_logger("promptreel.job")


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_job_id() -> str:
    return f"job_{uuid.uuid4().hex}"


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """Time, ids and randomness come in; nothing here knows which adapters it has."""

    config: Config
    store: JobStore
    queue: MessageQueue
    artifacts: ArtifactStore
    metrics: Metrics
    prompt_hash_key: bytes
    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = new_job_id
    new_seed: Callable[[], int] = field(default=partial(secrets.randbelow, 2**32))

    # --- the caller's side

    def submit(self, submission: Submission, *, limits: AdmissionLimits | None = None) -> Job:
        """Accept a job and wake a worker; with a known Idempotency-Key, return the earlier job.

        The limits are the configuration's, unless a surface brings its own. Raises
        ``InvalidRequest``, ``IdempotencyConflict`` and ``TooManyJobs``; then no job is left behind.
        """
        job = self._settle(submission)
        if limits is None:
            limits = configured(self.config.limits)
        try:
            admitted = self.store.admit(job, limits)
        except TooManyJobs as refusal:
            self.metrics.jobs_refused.labels(job.request.model, refusal.code).inc()
            raise
        if not admitted.created:
            return admitted.job
        self.metrics.jobs_submitted.labels(admitted.job.request.model).inc()
        self.events.tell("job accepted", admitted.job)
        try:
            return self._dispatch(admitted.job)
        except TransientError:
            # The job is safe in the store; the sweep publishes it.
            log.warning("job not published yet", job_id=admitted.job.id, exc_info=True)
            return admitted.job

    def get(self, job_id: str, *, owner: str) -> Job:
        """Raises ``JobNotFound``, for another owner's job too."""
        job = self.store.get(job_id)
        if job.owner != owner:
            raise JobNotFound
        return job

    def wait(self, job_id: str, *, timeout_seconds: float) -> Job:
        """The job once it is terminal, or as it is when the time is over."""
        job = None
        for job in self.store.watch(job_id, timeout_seconds=timeout_seconds):  # noqa: B007 - the last one
            pass
        return job if job is not None else self.store.get(job_id)

    def cancel(self, job_id: str, *, owner: str) -> Job:
        """Cancel a queued job at once, ask a running one to stop; a canceled one stays canceled.

        Raises ``JobNotFound``, and ``JobAlreadyTerminal`` for a finished or failed job.
        """
        self.get(job_id, owner=owner)
        try:
            job = self.store.update(job_id, partial(rules.request_cancel, now=self.now()))
        except JobAlreadyTerminal as error:
            if error.status == JobStatus.CANCELED:
                return self.store.get(job_id)
            raise
        if job.status.is_terminal:
            return self.events.ended(job)
        self.events.tell("cancel requested", job)
        return job

    # --- the worker's side

    def claim(self, job_id: str, *, worker: str) -> Job:
        """Take the job. It is ours only if the returned job has a lease.

        Raises ``JobNotFound``, ``JobAlreadyTerminal`` and ``LeaseHeld``: then it is not ours.
        """
        now = self.now()
        job = self.store.update(
            job_id,
            partial(
                rules.claim,
                token=secrets.token_hex(16),
                worker=worker,
                now=now,
                lease_seconds=self.config.worker.lease_seconds,
            ),
        )
        if job.lease is None:
            return self.events.ended(job)
        if job.started_at == now:
            self.metrics.queue_seconds.observe((now - job.created_at).total_seconds())
        self.events.tell("job claimed", job, worker=worker)
        return job

    def heartbeat(self, job_id: str, *, token: str) -> Job:
        """Renew the lease; the returned job tells of a cancel request. Raises ``LeaseLost``."""
        return self.store.update(
            job_id,
            partial(
                rules.heartbeat,
                token=token,
                now=self.now(),
                lease_seconds=self.config.worker.lease_seconds,
            ),
        )

    def report(self, job_id: str, *, token: str, phase: Phase, fraction: float) -> Job:
        """Renew the lease and store progress. Raises ``LeaseLost``."""
        return self.store.update(
            job_id,
            partial(
                rules.report,
                token=token,
                phase=phase,
                fraction=fraction,
                now=self.now(),
                lease_seconds=self.config.worker.lease_seconds,
            ),
        )

    def complete(
        self,
        job_id: str,
        *,
        token: str,
        artifacts: tuple[Artifact, ...],
        summary: RenderSummary,
    ) -> Job:
        """The artifacts are stored: finish the job. Raises ``LeaseLost``."""
        transition = partial(
            rules.complete, token=token, artifacts=artifacts, summary=summary, now=self.now()
        )
        job = self.store.update(job_id, transition)
        self.metrics.generation_seconds.observe(summary.generation_seconds)
        self.metrics.observe_phases(summary.phase_seconds.items())
        return self.events.ended(job)

    def fail(self, job_id: str, *, token: str, error: PromptreelError) -> Job:
        """Try again later if that may help and attempts are left, else fail. Raises ``LeaseLost``."""
        transition = rules.retry if error.retry else rules.fail
        reason = JobError(code=error.code, message=error.message)
        job = self.store.update(
            job_id, partial(transition, token=token, error=reason, now=self.now())
        )
        if job.status is JobStatus.QUEUED:
            self.metrics.retries.labels(job.request.model, error.code).inc()
            self.events.tell("job goes back to the queue", job, code=error.code)
            return job
        return self.events.ended(job)

    def release(self, job_id: str, *, token: str) -> Job:
        """Hand the job back unharmed because this worker is going down. Raises ``LeaseLost``."""
        job = self.store.update(job_id, partial(rules.release, token=token, now=self.now()))
        if job.status.is_terminal:
            return self.events.ended(job)
        self.events.tell("job handed back", job)
        return job

    def acknowledge_cancel(self, job_id: str, *, token: str) -> Job:
        """The render has stopped: the job is canceled. Raises ``LeaseLost``."""
        return self.events.ended(
            self.store.update(
                job_id, partial(rules.acknowledge_cancel, token=token, now=self.now())
            )
        )

    def sweep(self) -> SweepReport:
        """Mend what was lost on the way; what and how is in ``shared/sweep.py``."""
        sweep = Sweep(
            config=self.config,
            store=self.store,
            queue=self.queue,
            artifacts=self.artifacts,
            events=self.events,
            now=self.now,
        )
        return sweep.run()

    # --- pieces

    @property
    def events(self) -> JobEvents:
        return JobEvents(metrics=self.metrics, prompt_hash_key=self.prompt_hash_key)

    def _dispatch(self, job: Job) -> Job:
        return dispatch(job, store=self.store, queue=self.queue, now=self.now())

    def _settle(self, submission: Submission) -> Job:
        return settle(
            submission,
            self.config,
            job_id=self.new_id(),
            now=self.now(),
            new_seed=self.new_seed,
        )
