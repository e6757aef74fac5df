"""The jobs of pictures in the store, and what every change of one brings with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from shared.errors import ArtifactStoreUnavailable, Fault, JobNotFound, PromptreelError
from shared.images.transitions import remote_of
from shared.job import Charge, Job, JobError
from shared.job_changes import change, has_ended
from shared.job_events import JobEvents
from shared.ports import ArtifactStore, JobStore

log = structlog.get_logger("promptreel.images")

_OURS = (
    "The provider, or what it made, cannot be used. Whoever runs this installation can tell why."
)


def reason_of(error: PromptreelError) -> JobError:
    """Why a job failed, as its owner may read it: what only the operator can mend is for the log."""
    message = _OURS if error.fault is Fault.OPERATOR else error.message
    return JobError(code=error.code, message=message)


@dataclass(frozen=True, kw_only=True)
class Records:
    store: JobStore
    artifacts: ArtifactStore
    events: JobEvents

    def get(self, job_id: str, *, owner: str | None = None) -> Job:
        """Raises ``JobNotFound``, for another owner's and for a video's too."""
        job = self.store.get(job_id)
        if job.remote is None or owner not in (None, job.owner):
            raise JobNotFound
        return job

    def update(self, job_id: str, rule: Callable[[Job], Job]) -> Job:
        """The job after the rule. What it raises changes nothing."""
        job, _ = self.change(job_id, rule)
        return job

    def change(self, job_id: str, rule: Callable[[Job], Job]) -> tuple[Job, bool]:
        """The job after the rule, and whether it was this call that changed it."""
        before, after = change(self.store, job_id, rule)
        if after == before:
            return after, False
        if has_ended(before, after):
            self._close(after)
        if _was_given_back(before.charge, after.charge):
            self.tell("usage given back", after)
        return after, True

    def tell(self, event: str, job: Job, **fields: Any) -> None:  # noqa: ANN401 - log fields
        """A log line with nothing of whoever asked but the owner's id, and nothing of what was asked."""
        told = {
            "ownerId": job.owner,
            "jobId": job.id,
            "predictionId": remote_of(job).prediction_id,
            "status": job.status.value,
            "request_id": job.request_id,
        }
        log.info(event, **(told | fields))

    def warn(self, event: str, job: Job, error: PromptreelError) -> None:
        log.warning(event, jobId=job.id, code=error.code, reason=error.message)

    def _close(self, job: Job) -> None:
        """Told once, by whoever has stored the end."""
        self.events.ended(job)
        self.tell("generation ended", job, code=job.error.code if job.error else None)
        try:
            for key in job.input_keys:
                self.artifacts.delete(key)
        except ArtifactStoreUnavailable as error:
            self.warn("inputs not removed", job, error)  # The sweep removes them.


def _was_given_back(before: Charge | None, after: Charge | None) -> bool:
    given_back = after is not None and after.given_back_at is not None
    return given_back and before is not None and before.given_back_at is None
