"""The words of the surface for the `openai` client: its statuses, and the shape of its errors."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response, json

from services.api.errors import register_error_handlers, reply_to
from services.api.videos.schemas import VideoStatus
from shared.errors import ArtifactExpired, BodyTooLarge, PromptreelError, UnsupportedContentType
from shared.job import JobStatus

WORDS: Mapping[JobStatus, VideoStatus] = MappingProxyType(
    {
        JobStatus.QUEUED: "queued",
        JobStatus.STARTED: "in_progress",
        JobStatus.PROGRESS: "in_progress",
        JobStatus.FINISHED: "completed",
        JobStatus.FAILED: "failed",
        JobStatus.CANCELED: "failed",
    }
)

# What a request's fields are called here, where the rules about them call them otherwise.
_FIELDS: Mapping[str | None, str] = MappingProxyType(
    {
        "duration": "seconds",
        "frames": "num_frames",
        "picture": "input_reference",
        "preset": "quality",
        "resolution": "size",
        "steps": "num_inference_steps",
    }
)

# The client has a class of errors for each of those statuses, and none for the usual ones of these.
_STATUSES: Mapping[type[PromptreelError], int] = MappingProxyType(
    {ArtifactExpired: 404, BodyTooLarge: 400, UnsupportedContentType: 400}
)
_TYPES: Mapping[int, str] = MappingProxyType({401: "authentication_error", 429: "rate_limit_error"})


def as_told(
    status: int, *, code: str, message: str, field: str | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """The one shape of an error here."""
    kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 - a class of statuses
    return {
        "error": {
            "message": message,
            "type": _TYPES.get(status, kind),
            "param": _FIELDS.get(field, field),
            "code": code,
        }
    }


def register_words(surface: Blueprint) -> None:
    """Every error of the surface's operations is told in its words."""
    register_error_handlers(surface, tell=_reply_to, in_words=_in_words)


def _reply_to(error: PromptreelError) -> Response:
    return reply_to(error, status=_STATUSES.get(type(error)))


def _in_words(told: Response) -> Response:
    error = json.loads(told.get_data())["error"]
    words = as_told(
        told.status_code,
        code=error["code"],
        message=error["message"],
        field=error.get("field"),
    )
    told.set_data(json.dumps(words))
    return told
