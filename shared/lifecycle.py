"""The life of a job, as use cases over the ports.

Each reads as the sentence it is: the rules are transitions in ``shared/job.py``, the transaction is
the store's. Whatever is lost between two steps here, the sweep finds.
"""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import structlog

from shared import job as rules
from shared.admission import AdmissionLimits, configured
from shared.catalog import Model, find_model
from shared.config import Config
from shared.errors import (
    JobAlreadyTerminal,
    JobNotFound,
    PromptreelError,
    TooManyJobs,
    TransientError,
)
from shared.job import Artifact, Job, JobError, JobStatus, Phase, RenderSummary
from shared.messages import Message
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.submission import Submission, settle
from shared.telemetry import Metrics, hash_prompt, trace_id

# What one sweep looks at: enough that some jobs it cannot mend do not hide all others.
_SWEEP_JOBS = 1000
_SWEEP_DEAD_LETTERS = 100
# A bucket that does not answer is not waited for longer than this, but for the call at hand.
_SWEEP_FILES_FOR = timedelta(seconds=60)

log = structlog.get_logger("promptreel.job")


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_job_id() -> str:
    return f"job_{uuid.uuid4().hex}"


@dataclass(kw_only=True)
class SweepReport:
    """What one sweep did, in jobs."""

    published: int = 0
    requeued: int = 0
    ended: int = 0
    expired: int = 0
    tidied: int = 0
    forgotten: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())


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
        self._tell("job accepted", admitted.job)
        try:
            return self._publish(admitted.job)
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
            return self._ended(job)
        self._tell("cancel requested", job)
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
            return self._ended(job)
        if job.started_at == now:
            self.metrics.queue_seconds.observe((now - job.created_at).total_seconds())
        self._tell("job claimed", job, worker=worker)
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
        return self._ended(job)

    def fail(self, job_id: str, *, token: str, error: PromptreelError) -> Job:
        """Try again later if that may help and attempts are left, else fail. Raises ``LeaseLost``."""
        transition = rules.retry if error.retry else rules.fail
        reason = JobError(code=error.code, message=error.message)
        job = self.store.update(
            job_id, partial(transition, token=token, error=reason, now=self.now())
        )
        if job.status is JobStatus.QUEUED:
            self.metrics.retries.labels(job.request.model, error.code).inc()
            self._tell("job goes back to the queue", job, code=error.code)
            return job
        return self._ended(job)

    def release(self, job_id: str, *, token: str) -> Job:
        """Hand the job back unharmed because this worker is going down. Raises ``LeaseLost``."""
        job = self.store.update(job_id, partial(rules.release, token=token, now=self.now()))
        if job.status.is_terminal:
            return self._ended(job)
        self._tell("job handed back", job)
        return job

    def acknowledge_cancel(self, job_id: str, *, token: str) -> Job:
        """The render has stopped: the job is canceled. Raises ``LeaseLost``."""
        return self._ended(
            self.store.update(
                job_id, partial(rules.acknowledge_cancel, token=token, now=self.now())
            )
        )

    # --- the sweep

    def sweep(self) -> SweepReport:
        """Mend what was lost: unpublished jobs, silent workers, dead letters, spent retention."""
        done = SweepReport()
        started_at = self.now()
        due = self.store.due(started_at, limit=_SWEEP_JOBS)
        # First those that somebody waits for; of the others, only files are to be removed.
        for job in sorted(due, key=lambda job: job.status.is_terminal):
            if job.status.is_terminal and self.now() >= started_at + _SWEEP_FILES_FOR:
                break
            try:
                self._sweep_one(job, done)
            except JobNotFound:
                continue  # Another sweep was faster.
            except PromptreelError as error:
                # It stays due; one job that cannot be mended must not keep the others waiting.
                log.warning("job not swept", job_id=job.id, code=error.code, reason=error.message)
        for delivery in self.queue.dead_letters(limit=_SWEEP_DEAD_LETTERS):
            self._bury(delivery.message.job_id, done)
            self.queue.acknowledge(delivery)
        if done:
            log.info("swept", **vars(done))
        return done

    def _sweep_one(self, job: Job, done: SweepReport) -> None:
        if job.status.is_terminal:
            self._sweep_ended(job, done)
        elif job.lease is not None:
            after = self.store.update(job.id, partial(rules.requeue_expired, now=self.now()))
            if after.status.is_terminal:
                self._ended(after)
                done.ended += 1
            elif after.lease is None:
                self._tell("lease expired, job goes back to the queue", after)
                self._publish(after)
                done.requeued += 1
        else:
            self._publish(job)
            done.published += 1

    def _sweep_ended(self, job: Job, done: SweepReport) -> None:
        """Each step may be the last one of a sweep that is killed: the next sweep goes on there."""
        if job.leftovers:
            self._tidy(job)
            done.tidied += 1
        elif job.artifacts:
            # First the word, then the deed: nobody is led to a file that is gone.
            job = self.store.update(job.id, partial(rules.expire_artifacts, now=self.now()))
            done.expired += 1
            self._tidy(job)
        else:
            self._remove_files(job)  # Again: an upload may have come very late.
            self.store.delete(job.id)
            done.forgotten += 1

    def _tidy(self, job: Job) -> None:
        self._remove_files(job)
        self.store.update(job.id, rules.leftovers_removed)

    def _remove_files(self, job: Job) -> None:
        """Where the job says they are, and where an unfinished attempt would have put them."""
        for artifact in job.artifacts:
            # The prefix may have been another one when the job was finished.
            self.artifacts.delete(artifact.key)
        folder = rules.artifact_folder(job, prefix=self.config.artifacts.prefix)
        self.artifacts.delete_all(folder)

    def _bury(self, job_id: str, done: SweepReport) -> None:
        try:
            before = self.store.get(job_id)
            after = self.store.update(job_id, partial(rules.dead_letter, now=self.now()))
        except JobNotFound:
            return
        if after.status.is_terminal and not before.status.is_terminal:
            self._ended(after)
            done.ended += 1

    # --- pieces

    def _settle(self, submission: Submission) -> Job:
        return settle(
            submission,
            self.config,
            job_id=self.new_id(),
            now=self.now(),
            new_seed=self.new_seed,
        )

    def _publish(self, job: Job) -> Job:
        message = Message(job_id=job.id, traceparent=job.traceparent)
        self.queue.publish(_model_of(job).topic, message)
        return self.store.update(job.id, partial(rules.mark_published, now=self.now()))

    def _ended(self, job: Job) -> Job:
        self.metrics.jobs_ended.labels(job.request.model, job.status).inc()
        self._tell("job ended", job)
        return job

    def _tell(self, event: str, job: Job, **fields: Any) -> None:  # noqa: ANN401 - log fields
        log.info(
            event,
            job_id=job.id,
            request_id=job.request_id,
            outcome=job.status.value,
            attempt=job.attempt,
            model=job.request.model,
            prompt_hash=hash_prompt(self.prompt_hash_key, job.request.prompt),
            trace=trace_id(job.traceparent),
            generation_time_seconds=job.summary.generation_seconds if job.summary else None,
            error_code=job.error.code if job.error else None,
            **fields,
        )


def _model_of(job: Job) -> Model:
    return find_model(job.request.model)
