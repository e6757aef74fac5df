"""A job as its owner sees it, with what may be expected of it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.api.context import api
from services.api.links import expiry_of
from shared.estimates import cost_usd, queue_position, seconds_left
from shared.job import Job, JobStatus
from shared.schemas import JobDetails, JobFailure, JobView


@dataclass(frozen=True)
class _Counted:
    """What the store says of the queue that a job waits in."""

    before: int = 0
    ended: int = 0


def details_of(job: Job) -> JobDetails:
    return all_details_of([job])[0]


def all_details_of(jobs: Sequence[Job]) -> list[JobDetails]:
    """In their order. What is counted for them is counted once a model, not once a job."""
    now = api().wiring.lifecycle.now()
    counted = _counted([job for job in jobs if job.status is JobStatus.QUEUED])
    return [_details(job, counted.get(job.id, _Counted()), now=now) for job in jobs]


def _counted(queued: Sequence[Job]) -> Mapping[str, _Counted]:
    """By the id of the job."""
    by_model: dict[str, list[Job]] = defaultdict(list)
    for job in queued:
        by_model[job.request.model].append(job)
    found: dict[str, _Counted] = {}
    for model, jobs in by_model.items():
        before = api().wiring.store.queued_before(model, [job.created_at for job in jobs])
        ended = api().paces.ended(model)
        found |= {job.id: _Counted(count, ended) for job, count in zip(jobs, before, strict=True)}
    return found


def _details(job: Job, counted: _Counted, *, now: datetime) -> JobDetails:
    position = queue_position(job, before=counted.before)
    return JobDetails(
        **_view(job).model_dump(),
        queue_position=position,
        estimated_seconds_left=seconds_left(job, position=position, ended=counted.ended, now=now),
        cost_usd=cost_usd(job),
    )


def _view(job: Job) -> JobView:
    expired = expiry_of(job)
    video = None if expired else job.artifact("video")
    # A job that is tried again remembers why the last attempt failed; it has not failed itself.
    error = expired or (job.error if job.status is JobStatus.FAILED else None)
    return JobView(
        id=job.id,
        status=job.status.value,
        progress=job.progress,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        gcs_uri=video.uri if video else None,
        error=JobFailure(code=error.code, message=error.message) if error else None,
    )
