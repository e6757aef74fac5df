"""The life of a job, as use cases over the ports.

Each reads as the sentence it is: the rules are transitions in ``shared/transitions.py``, the transaction is
the store's. Whatever is lost between two steps here, the sweep finds.
"""

import secrets
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import structlog

from shared import transitions as rules
from shared.admission import AdmissionLimits, configured
from shared.catalog import models_of
from shared.config import Config
from shared.dispatch import dispatch
from shared.errors import (
    ArtifactStoreUnavailable,
    IdempotencyConflict,
    JobAlreadyTerminal,
    JobNotFound,
    PromptreelError,
    TooManyJobs,
    TransientError,
)
from shared.fallback import fail_or_hand_over
from shared.job import Artifact, Job, JobStatus, Phase, RenderSummary
from shared.job_changes import change, has_ended
from shared.job_events import JobEvents
from shared.ports import ArtifactStore, JobPage, JobStore, MessageQueue
from shared.starting_pictures import keep
from shared.submission import StartingPicture, Submission, settle
from shared.sweep import RemoteJobs, Sweep, SweepReport
from shared.telemetry import Metrics
from shared.webhooks.endpoints import Endpoints

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
    remote: RemoteJobs | None = None

    # --- the caller's side

    def submit(self, submission: Submission, *, limits: AdmissionLimits | None = None) -> Job:
        """Accept a job and wake a worker; with a known Idempotency-Key, return the earlier job.

        The limits are the configuration's, unless a surface brings its own. Raises
        ``InvalidRequest``, ``IdempotencyConflict`` and ``TooManyJobs``, and for a picture
        ``ArtifactStoreUnavailable``; then no job is left behind.
        """
        job = self.endpoints.announced(self._settle(submission))
        if limits is None:
            limits = configured(self.config.limits)
        try:
            admitted = self.store.admit(job, limits)
        except TooManyJobs as refusal:
            self.metrics.jobs_refused.labels(job.request.model, refusal.code).inc()
            raise
        if not admitted.created:
            if admitted.job.hidden_at is not None:
                raise IdempotencyConflict("This Idempotency-Key was used for a deleted video.")
            return admitted.job
        if submission.picture is not None:
            self._keep(submission.picture, admitted.job)
        self.metrics.jobs_submitted.labels(admitted.job.request.model).inc()
        self.events.tell("job accepted", admitted.job)
        return self._dispatched(admitted.job)

    def get(self, job_id: str, *, owner: str) -> Job:
        """A video's job. Raises ``JobNotFound``, for another owner's, a picture's and a deleted one too."""
        job = self.store.get(job_id)
        if job.owner != owner or job.remote is not None or job.hidden_at is not None:
            raise JobNotFound
        return job

    def list(
        self,
        owner: str,
        *,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
        statuses: Collection[JobStatus] | None = None,
    ) -> JobPage:
        """A page of an owner's videos, but for deleted ones. Raises ``JobNotFound`` for ``after``."""
        shown: list[Job] = []
        while True:
            page = self.store.list(
                owner,
                kind="video",
                limit=limit + 1,
                after=after,
                newest_first=newest_first,
                statuses=statuses,
            )
            shown += [job for job in page.jobs if job.hidden_at is None]
            if len(shown) > limit or not page.has_more:
                return JobPage(jobs=shown[:limit], has_more=len(shown) > limit)
            after = page.jobs[-1].id

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

    def delete(self, job_id: str, *, owner: str) -> None:
        """End it if it has not ended; for callers, it and its files are gone. Raises ``JobNotFound``."""
        self.get(job_id, owner=owner)
        before, job = change(self.store, job_id, partial(rules.hide, now=self.now()))
        self.events.tell("job deleted", job)
        if not job.status.is_terminal:
            return  # Its worker ends it, and the sweep removes what that has stored by then.
        if has_ended(before, job):
            self.events.ended(job)
        try:
            if job.status is JobStatus.FINISHED:
                self._sweep.tidy(job)
        except ArtifactStoreUnavailable as error:
            log.warning("files not removed yet", job_id=job_id, code=error.code)

    # --- the worker's side

    def claim(self, job_id: str, *, worker: str, topic: str | None = None) -> Job:
        """Take the job, if it is of this topic. It is ours only if the returned job has a lease.

        Raises ``JobNotFound``, ``JobAlreadyTerminal``, ``LeaseHeld`` and ``OtherWorkersJob``: then it is
        not ours.
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
                models=None if topic is None else models_of(topic),
            ),
        )
        if job.lease is None:
            return self.events.ended(job)
        queue_seconds = None
        if job.started_at == now:  # its first attempt: for that alone has it waited since
            queue_seconds = round((now - job.created_at).total_seconds(), 3)
            self.metrics.queue_seconds.observe(queue_seconds)
        self.events.tell("job claimed", job, worker=worker, queue_seconds=queue_seconds)
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

    def worker_died(self, worker: str, job_id: str) -> None:
        """The next sweep takes its job back, if it has one. Raises ``StoreUnavailable``."""
        with suppress(JobNotFound):
            self.store.update(job_id, partial(rules.end_lease, worker=worker, now=self.now()))

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
        """Try again later if that may help and attempts are left, here or elsewhere, else fail.

        Raises ``LeaseLost``.
        """
        transition = partial(
            fail_or_hand_over, token=token, error=error, config=self.config, now=self.now()
        )
        job = self.store.update(job_id, transition)
        if job.status is not JobStatus.QUEUED:
            return self.events.ended(job)
        self.metrics.retries.labels(job.request.model, error.code).inc()
        if job.attempt > 0:
            self.events.tell("job goes back to the queue", job, code=error.code)
            return job
        self.events.tell("job goes to the fallback backend", job, code=error.code)
        return self._dispatched(job)

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
        return self._sweep.run()

    # --- pieces

    @property
    def events(self) -> JobEvents:
        return JobEvents(
            metrics=self.metrics, prompt_hash_key=self.prompt_hash_key, queue=self.queue
        )

    @property
    def endpoints(self) -> Endpoints:
        """Where owners are told of the ends of their jobs."""
        return Endpoints(config=self.config.webhooks, store=self.store, now=self.now)

    @property
    def _sweep(self) -> Sweep:
        return Sweep(
            config=self.config,
            store=self.store,
            queue=self.queue,
            artifacts=self.artifacts,
            events=self.events,
            now=self.now,
            remote=self.remote,
        )

    def _dispatched(self, job: Job) -> Job:
        try:
            return dispatch(job, store=self.store, queue=self.queue, now=self.now())
        except TransientError:
            # The job is safe in the store; the sweep publishes it.
            log.warning("job not published yet", job_id=job.id, exc_info=True)
            return job

    def _keep(self, picture: StartingPicture, job: Job) -> None:
        """Before a worker is woken for it. Where it cannot be kept, no job is left behind."""
        try:
            for key in job.input_keys:
                keep(picture, key, self.artifacts)
        except PromptreelError:
            self.store.delete(job.id)
            raise

    def _settle(self, submission: Submission) -> Job:
        return settle(
            submission,
            self.config,
            job_id=self.new_id(),
            now=self.now(),
            new_seed=self.new_seed,
        )
