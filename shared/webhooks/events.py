"""What a webhook says: the events of the `openai` client, and the same for pictures."""

import json

from shared.job import Job, JobStatus


def event_id(job: Job) -> str:
    """The same at every attempt: a receiver that has seen it need not look again."""
    return f"evt_{job.id.removeprefix('job_')}"


def event_type(job: Job) -> str:
    """``video.completed``, ``video.failed``; a canceled video has failed, as everywhere under /v1/videos."""
    end = "completed" if job.status is JobStatus.FINISHED else "failed"
    return f"{job.kind}.{end}"


def event_body(job: Job) -> bytes:
    """Which job it is and how it ended, nothing of what was asked for: what came of it, its owner reads."""
    if job.finished_at is None:
        raise AssertionError("a webhook tells of an end")
    event = {
        "id": event_id(job),
        "object": "event",
        "created_at": int(job.finished_at.timestamp()),
        "type": event_type(job),
        "data": {"id": job.id},
    }
    return json.dumps(event, separators=(",", ":")).encode()
