"""The life of a picture's job as its caller and its provider see it: use cases over the ports.

The job is stored before the provider hears of it, and is told the job's id with the order: whatever is
lost between two steps here, a webhook, the next look at the job or the sweep finds.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from shared.config import Config
from shared.errors import PromptreelError, ProviderSilent, TooManyJobs, TransientError
from shared.images import transitions as rules
from shared.images.following import Following
from shared.images.moderation import Moderation
from shared.images.ordering import Ordering
from shared.images.outputs import Outputs
from shared.images.provider import ImageProvider, Prediction
from shared.images.records import Records, reason_of
from shared.images.submission import ImageSubmission, pictures_of, settle
from shared.job import Job, JobStatus
from shared.job_events import JobEvents
from shared.ledger import month_after, month_of
from shared.lifecycle import new_job_id, utc_now
from shared.plans import image_limits, plan_of
from shared.ports import ArtifactStore, JobStore
from shared.submission import StartingPicture


def new_file_name() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What an owner has used of a month."""

    plan: str
    month: str  # "2026-01"
    limit: int
    used: int
    resets_at: datetime

    @property
    def remaining(self) -> int:
        return max(self.limit - self.used, 0)


@dataclass(frozen=True, kw_only=True)
class Generations:
    """Time, ids and randomness come in; nothing here knows which adapters or providers it has."""

    config: Config
    store: JobStore
    artifacts: ArtifactStore
    providers: Callable[[str], ImageProvider]  # by name; raises ``ImagesNotOffered``
    outputs: Outputs
    moderation: Moderation
    events: JobEvents
    now: Callable[[], datetime] = utc_now
    new_id: Callable[[], str] = new_job_id
    new_name: Callable[[], str] = new_file_name

    # --- the caller's side

    def submit(self, submission: ImageSubmission) -> Job:
        """Accept a job and order its picture; with a known Idempotency-Key, return the earlier job.

        Raises ``InvalidRequest``, ``PromptRefused``, ``IdempotencyConflict``, ``TooManyJobs`` and
        ``ImagesNotOffered``; then no job is left behind. What else is raised, because the provider did
        not take the order, leaves a failed job that does not count against its owner's month.
        """
        job = settle(
            submission,
            self.config,
            job_id=self.new_id(),
            now=self.now(),
            new_name=self.new_name,
        )
        self.moderation(submission.prompt)
        provider = self.providers(rules.remote_of(job).provider)
        admitted, is_new = self._admit(job, submission.plan)
        return self._order(job, pictures_of(submission), provider) if is_new else admitted

    def get(self, job_id: str, *, owner: str) -> Job:
        """The job as it is; a provider that has been silent for a while is asked first.

        Raises ``JobNotFound``, for another owner's and for a video's too.
        """
        job = self._records.get(job_id, owner=owner)
        if job.status.is_terminal:
            return job
        return self.following.look(job, stale_seconds=self.config.images.stale_seconds)

    def cancel(self, job_id: str, *, owner: str) -> Job:
        """End it, and tell the provider to stop. Raises ``JobNotFound`` and ``JobAlreadyTerminal``."""
        self._records.get(job_id, owner=owner)
        job = self._records.update(job_id, partial(rules.cancel, now=self.now()))
        return self.following.stop(job) if job.status is JobStatus.CANCELED else job

    def delete(self, job_id: str, *, owner: str) -> Job:
        """Lead nobody to its pictures any more. Raises ``JobNotFound`` and ``JobNotTerminal``."""
        self._records.get(job_id, owner=owner)
        job = self._records.update(job_id, partial(rules.delete_pictures, now=self.now()))
        self._records.tell("generation deleted", job)
        return job

    def usage(self, owner: str, *, plan_of_key: str | None = None) -> Usage:
        """Of the month it is now."""
        name, plan = plan_of(owner, self.config, of_key=plan_of_key)
        now = self.now()
        month = month_of(now)
        return Usage(
            plan=name,
            month=month,
            limit=plan.images_per_month,
            used=self.store.used(owner, month),
            resets_at=month_after(now),
        )

    # --- the provider's side

    def hear(self, job_id: str, prediction: Prediction) -> Job:
        """What a provider says by itself. Raises ``JobNotFound``, and ``TransientError``: say it again."""
        return self.following.hear(self._records.get(job_id), prediction)

    # --- pieces

    def _admit(self, job: Job, plan_of_key: str | None) -> tuple[Job, bool]:
        _, plan = plan_of(job.owner, self.config, of_key=plan_of_key)
        metrics, model = self.events.metrics, job.request.model
        try:
            admitted = self.store.admit(job, image_limits(plan))
        except TooManyJobs as refusal:
            metrics.jobs_refused.labels(model, refusal.code).inc()
            raise
        if not admitted.created:
            return admitted.job, False
        metrics.jobs_submitted.labels(model).inc()
        self.events.tell("job accepted", job)
        self._records.tell("generation submitted", job)
        self._records.tell("usage debited", job, month=job.charge.month if job.charge else None)
        return job, True

    def _order(
        self, job: Job, pictures: tuple[StartingPicture, ...], provider: ImageProvider
    ) -> Job:
        ordering = Ordering(config=self.config, artifacts=self.artifacts, now=self.now)
        try:
            prediction = provider.create(ordering.order_for(job, pictures))
        except ProviderSilent as error:
            # It may run: then its webhook says so. If nobody hears of it, it is given up in time.
            self._records.warn("no answer to the order", job, error)
            return job
        except PromptreelError as error:
            self._records.warn("order not taken", job, error)
            failed = partial(rules.fail, error=reason_of(error), now=self.now())
            self._records.update(job.id, failed)
            raise
        return self._ordered(job, prediction)

    def _ordered(self, job: Job, prediction: Prediction) -> Job:
        try:
            job = self.following.hear(job, prediction)
        except TransientError as error:
            # The order is out, and can be heard of: the caller has a job.
            self._records.warn("answer to the order not settled yet", job, error)
        self._records.tell("generation ordered", job, predictionId=prediction.id)
        # It may have been canceled while it was being ordered: there was nothing to stop then.
        return self.following.stop(job) if job.status is JobStatus.CANCELED else job

    @property
    def following(self) -> Following:
        return Following(
            config=self.config,
            records=self._records,
            outputs=self.outputs,
            providers=self.providers,
            now=self.now,
        )

    @property
    def _records(self) -> Records:
        return Records(store=self.store, artifacts=self.artifacts, events=self.events)
