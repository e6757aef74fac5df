"""A video's job, as the `openai` client is told of it."""

from datetime import datetime

from services.api.videos.schemas import Video, VideoFailure, VideoPage
from services.api.videos.words import WORDS
from shared.catalog import find_model
from shared.job import Job, JobStatus, RenderRequest
from shared.ports import JobPage

_CANCELLED = VideoFailure(code="cancelled", message="The video was canceled before it was done.")
_FAILED = VideoFailure(code="failed", message="The video could not be made.")


def video_of(job: Job) -> Video:
    request, expires_at = job.render, job.artifacts_expire_at
    completed_at = job.finished_at if job.status is JobStatus.FINISHED else None
    return Video(
        id=job.id,
        created_at=_unix(job.created_at),
        completed_at=None if completed_at is None else _unix(completed_at),
        expires_at=None if expires_at is None else _unix(expires_at),
        model=request.model,
        progress=job.progress,
        prompt=request.prompt,
        remixed_from_video_id=job.remixed_from,
        seconds=_seconds(request),
        size=str(find_model(request.model).output_size(request.resolution)),
        status=WORDS[job.status],
        error=_failure(job),
    )


def page_of(page: JobPage) -> VideoPage:
    videos = [video_of(job) for job in page.jobs]
    return VideoPage(
        data=videos,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
        has_more=page.has_more,
    )


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())


def _seconds(request: RenderRequest) -> str:
    """Of the whole video, as its request comes to: "5", or "0.5" of a few frames."""
    model = find_model(request.model)
    frames = request.frames or model.frames(request.duration_seconds)
    segment_seconds = (frames - model.opening_frames) / model.fps
    faded_seconds = (request.segments - 1) * request.crossfade_seconds
    return f"{request.segments * segment_seconds - faded_seconds:g}"


def _failure(job: Job) -> VideoFailure | None:
    # A job that is tried again remembers why the last attempt failed; it has not failed itself.
    match job.status:
        case JobStatus.CANCELED:
            return _CANCELLED
        case JobStatus.FAILED if job.error is not None:
            return VideoFailure(code=job.error.code, message=job.error.message)
        case JobStatus.FAILED:
            return _FAILED
        case _:
            return None
