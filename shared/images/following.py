"""What becomes of an order: a provider is heard or asked, its pictures are brought home, or nobody waits.

Any number may hear of the same order at once, in whatever order, and be killed between any two steps:
one brings the pictures home, and what is left undone is found by the next look at the job or the sweep.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from shared.config import Config
from shared.errors import JobAlreadyTerminal, LeaseHeld, LeaseLost, PromptreelError, TransientError
from shared.images import transitions as rules
from shared.images.outputs import Outputs
from shared.images.provider import ImageProvider, Prediction, PredictionStatus
from shared.images.records import Records, reason_of
from shared.job import Job, JobError, JobStatus
from shared.transitions import complete, heartbeat

# Beside the time that fetching one picture may take: to decode it, and to store it with its thumbnail.
_KEEPING_SECONDS = 30
_HOLDER = "images"
_LOST = JobError(code="provider_failed", message="The provider has lost it. Submit it again.")


@dataclass(frozen=True, kw_only=True)
class Following:
    config: Config
    records: Records
    outputs: Outputs
    providers: Callable[[str], ImageProvider]  # by name
    now: Callable[[], datetime]

    def hear(self, job: Job, prediction: Prediction) -> Job:
        """Do what follows from what a provider says; heard again, nothing follows.

        Raises ``TransientError`` when its pictures could not be brought home yet.
        """
        if prediction.status is PredictionStatus.SUCCEEDED:
            return self._take(job, prediction)
        heard = partial(rules.heard_of, prediction=prediction, now=self.now())
        return self.records.update(job.id, heard)

    def look(self, job: Job, *, stale_seconds: float) -> Job:
        """The job as it is, having asked a provider that has been silent so long; overdue, it fails."""
        ask = partial(rules.ask, now=self.now(), stale_seconds=stale_seconds)
        job, mine = self._changed_if_due(job, ask)
        if mine:
            job = self._ask(job)
        job, mine = self._changed_if_due(job, partial(rules.give_up, now=self.now()))
        return self.stop(job) if mine else job

    def look_after(self, job: Job) -> Job:
        """As the sweep does: a ``RemoteJobs``."""
        return self.look(job, stale_seconds=0)

    def stop(self, job: Job) -> Job:
        """Tell the provider of a job that has ended here; what never ran is not counted."""
        prediction_id = rules.remote_of(job).prediction_id
        if prediction_id is None:
            return job
        try:
            prediction = self._provider(job).cancel(prediction_id)
        except PromptreelError as error:
            # The job has ended here all the same; what it makes there is of no interest.
            self.records.warn("provider not stopped", job, error)
            return job
        if prediction is None or prediction.ran or job.status is not JobStatus.CANCELED:
            return job
        return self.records.update(job.id, partial(rules.give_back, now=self.now()))

    def _changed_if_due(self, job: Job, rule: Callable[[Job], Job]) -> tuple[Job, bool]:
        """Most who look find nothing to do: no transaction is begun for them."""
        return self.records.change(job.id, rule) if rule(job) != job else (job, False)

    def _ask(self, job: Job) -> Job:
        """What the provider says now; the job as it is, if that does not answer."""
        try:
            prediction = self._provider(job).read(rules.remote_of(job).prediction_id or "")
            if prediction is None:
                job = self.records.update(job.id, partial(rules.fail, error=_LOST, now=self.now()))
            else:
                job = self.hear(job, prediction)
        except PromptreelError as error:
            self.records.warn("provider polled in vain", job, error)
            return self.records.get(job.id)
        self.records.tell("provider polled", job)
        return job

    def _take(self, job: Job, prediction: Prediction) -> Job:
        token = secrets.token_hex(16)
        take = partial(
            rules.take,
            prediction=prediction,
            token=token,
            holder=_HOLDER,
            now=self.now(),
            lease_seconds=self._lease_seconds,
        )
        try:
            job = self.records.update(job.id, take)
            if job.lease is None:
                return job  # It was tried too often.
            return self._bring_home(job, prediction, token)
        except (JobAlreadyTerminal, LeaseHeld, LeaseLost):
            return self.records.get(job.id)  # Somebody else has done it, or is at it.

    def _bring_home(self, job: Job, prediction: Prediction, token: str) -> Job:
        def renew() -> None:
            now, seconds = self.now(), self._lease_seconds
            self.records.update(
                job.id, partial(heartbeat, token=token, now=now, lease_seconds=seconds)
            )

        try:
            artifacts = self.outputs.bring_home(job, prediction.outputs, before_each=renew)
        except TransientError as error:
            self._end_lease(job, rules.put_back, token, error)
            raise
        except PromptreelError as error:
            return self._end_lease(job, rules.refuse, token, error)
        done = partial(complete, token=token, artifacts=artifacts, summary=None, now=self.now())
        return self.records.update(job.id, done)

    def _end_lease(
        self, job: Job, rule: Callable[..., Job], token: str, error: PromptreelError
    ) -> Job:
        self.records.warn("pictures not brought home", job, error)
        change = partial(rule, token=token, error=reason_of(error), now=self.now())
        return self.records.update(job.id, change)

    @property
    def _lease_seconds(self) -> float:
        """For one picture: it is renewed before each."""
        return self.config.images.replicate.download_seconds + _KEEPING_SECONDS

    def _provider(self, job: Job) -> ImageProvider:
        return self.providers(rules.remote_of(job).provider)
