"""The words of the surface for pictures: its statuses, and the five codes of its errors."""

from collections.abc import Mapping
from types import MappingProxyType

import structlog
from flask import Blueprint, Response, json

from services.api.errors import register_error_handlers, reply, reply_to
from shared.errors import (
    BackendUnavailable,
    ImagesNotOffered,
    OutputRefused,
    PromptreelError,
    ProviderSilent,
)
from shared.images.schemas import GenerationStatus
from shared.job import JobStatus

# Below which its operations are.
SURFACE = "/api/v1"

log = structlog.get_logger("promptreel.images")

WORDS: Mapping[JobStatus, GenerationStatus] = MappingProxyType(
    {
        JobStatus.QUEUED: "starting",
        JobStatus.STARTED: "processing",
        JobStatus.PROGRESS: "processing",
        JobStatus.FINISHED: "succeeded",
        JobStatus.FAILED: "failed",
        JobStatus.CANCELED: "canceled",
    }
)

_UPSTREAM = (BackendUnavailable, OutputRefused, ProviderSilent)
_UPSTREAM_CODES = frozenset(
    {error.code for error in _UPSTREAM} | {"provider_failed", "provider_timeout"}
)
_LIMITS = frozenset({"monthly_limit_reached", "rate_exceeded", "queue_full", "too_many_requests"})
_FAILED_UPSTREAM = "The image provider does not answer, or failed. Nothing is counted. Try again."


def code_of(code: str, *, requesters_fault: bool) -> str:
    """One of five; what they leave untold, the status and the message tell."""
    if code == "too_many_in_flight":
        return "TOO_MANY_INFLIGHT"
    if code in _LIMITS:
        return "LIMIT_EXCEEDED"
    if code in _UPSTREAM_CODES:
        return "UPSTREAM_ERROR"
    return "VALIDATION_ERROR" if requesters_fault else "INTERNAL_ERROR"


def register_words(surface: Blueprint) -> None:
    """Every error of the surface's operations is told in its words."""
    register_error_handlers(surface, tell=_reply_to, in_words=_in_words)


def _reply_to(error: PromptreelError) -> Response:
    match error:
        case BackendUnavailable() | OutputRefused() | ProviderSilent():
            log.warning("provider failed", code=error.code, reason=error.message)
            told = reply(502, code=error.code, message=_FAILED_UPSTREAM)
        case ImagesNotOffered():
            told = reply(501, code=error.code, message=error.message)
        case _:
            told = reply_to(error)
    return told


def _in_words(told: Response) -> Response:
    body = json.loads(told.get_data())
    requesters_fault = told.status_code < 500  # noqa: PLR2004 - a class of statuses
    body["error"]["code"] = code_of(body["error"]["code"], requesters_fault=requesters_fault)
    told.set_data(json.dumps(body))
    return told
