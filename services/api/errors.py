"""What an error looks like to an HTTP caller. The only place where errors become statuses."""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import structlog
from flask import Response
from flask.sansio.scaffold import Scaffold
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from services.api.context import request_id
from shared.errors import (
    ArtifactExpired,
    ArtifactNotReady,
    ArtifactStoreUnavailable,
    BackendUnavailable,
    BodyTooLarge,
    BodyTooSlow,
    CertificatesUnavailable,
    ConfigurationError,
    Fault,
    IdempotencyConflict,
    ImagesNotOffered,
    InvalidRequest,
    JobAlreadyTerminal,
    JobNotFound,
    JobNotTerminal,
    KeysUnavailable,
    KeyUnknown,
    LeaseHeld,
    LeaseLost,
    LinkTampered,
    MalformedBody,
    ModelUnavailable,
    MonthlyLimitReached,
    OtherWorkersJob,
    OutputRefused,
    PromptreelError,
    PromptRefused,
    ProviderSilent,
    QueueFull,
    QueueUnavailable,
    RateExceeded,
    RenderCrashed,
    RenderTimedOut,
    ScopeMissing,
    StoreUnavailable,
    TooManyInFlight,
    TooManyJobs,
    TooManyRequests,
    Unauthenticated,
    UnreadableMessage,
    UnsupportedContentType,
    UntrustedCaller,
    WebhookConfigured,
    WebhookNotDue,
    WebhookNotFound,
    WebhookRefused,
)
from shared.schemas import ErrorDetail, ErrorReply

log = structlog.get_logger("promptreel.api")

STATUSES: Mapping[type[PromptreelError], int] = MappingProxyType(
    {
        InvalidRequest: 400,
        MalformedBody: 400,
        UnsupportedContentType: 415,
        BodyTooLarge: 413,
        BodyTooSlow: 408,
        Unauthenticated: 401,
        ScopeMissing: 403,
        KeyUnknown: 404,
        TooManyRequests: 429,
        UntrustedCaller: 403,
        JobNotFound: 404,
        IdempotencyConflict: 409,
        JobAlreadyTerminal: 409,
        JobNotTerminal: 409,
        ArtifactNotReady: 404,
        ArtifactExpired: 410,
        LinkTampered: 403,
        PromptRefused: 422,
        WebhookRefused: 403,
        WebhookNotFound: 404,
        WebhookConfigured: 409,
        QueueFull: 429,
        TooManyInFlight: 429,
        RateExceeded: 429,
        MonthlyLimitReached: 429,
        ConfigurationError: 500,
        ModelUnavailable: 500,
        ImagesNotOffered: 501,
        OutputRefused: 502,
        UnreadableMessage: 500,
        StoreUnavailable: 503,
        QueueUnavailable: 503,
        ArtifactStoreUnavailable: 503,
        BackendUnavailable: 503,
        ProviderSilent: 503,
        CertificatesUnavailable: 503,
        KeysUnavailable: 503,
        RenderCrashed: 502,
        RenderTimedOut: 504,
        # A worker's or courier's own business: reaching a caller it would be a bug.
        LeaseHeld: 500,
        LeaseLost: 500,
        OtherWorkersJob: 500,
        WebhookNotDue: 500,
    }
)

RETRY_AFTER_SECONDS = 5

_INTERNAL = "Something went wrong on our side. Try again; if it stays, report the request_id."
_UNAVAILABLE = "A part of the service does not answer at the moment. Try again in a few seconds."

# What to do about an error that the web framework raises before any of our code runs.
_ADVICE: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        400: ("bad_request", "The request cannot be read. Check the URL and the headers."),
        404: ("not_found", "There is no such path. /docs lists what there is."),
        405: ("method_not_allowed", "This path does not take this method; see the Allow header."),
        413: ("body_too_large", "The body is too large. Send a shorter one."),
        415: ("unsupported_content_type", "Send the body as `Content-Type: application/json`."),
        416: ("range_not_satisfiable", "The file is shorter; Content-Range has its size."),
    }
)


class InvalidFields(InvalidRequest):
    """Several things may be wrong with a request at once: all are named."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        field, reason = problems[0]
        super().__init__(_sentence(field, reason), field=field or None)
        self.details = [{"field": field, "message": reason} for field, reason in problems]


def refuse_fields(error: ValidationError) -> None:
    """Raises ``InvalidFields``: which field, and why; never what the caller sent in it."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    raise InvalidFields([_problem(problem) for problem in problems]) from None


def _problem(problem: Mapping[str, Any]) -> tuple[str, str]:
    field = ".".join(str(part) for part in problem["loc"])[:100]
    match problem["type"]:
        case "missing":
            reason = "is missing; add it"
        case "extra_forbidden":
            reason = "is not a field of this request; remove it"
        case _:
            reason = problem["msg"].removeprefix("Value error, ")
    return field, reason


def _sentence(field: str, reason: str) -> str:
    if reason.startswith("is "):
        return f"`{field}` {reason}."
    return f"`{field}`: {reason}." if field else f"{reason}."


def status_of(error: PromptreelError) -> int:
    """The status of an error, or of the nearest error it is a kind of."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 500)


def fault_of(code: str) -> Fault:
    """Whose fault a failed job's error is; a code of no error here is nobody's."""
    return next((kind.fault for kind in _kinds(PromptreelError) if kind.code == code), Fault.NOBODY)


def _kinds(root: type[PromptreelError]) -> Iterable[type[PromptreelError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)


def reply(
    status: int,
    *,
    code: str,
    message: str,
    field: str | None = None,
    details: list[dict[str, Any]] | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> Response:
    """The one shape of an error."""
    detail = ErrorDetail(
        code=code, message=message, request_id=request_id(), field=field, details=details
    )
    body = ErrorReply(error=detail).model_dump_json(exclude_none=True)
    response = Response(body, status=status, content_type="application/json")
    response.headers.extend(headers)
    return response


def no_seat(message: str) -> Response:
    """To whoever would hold a thread for a while, where all that may be held are."""
    wait = [("Retry-After", str(RETRY_AFTER_SECONDS))]
    return reply(503, code="no_seat", message=message, headers=wait)


def reply_to(error: PromptreelError, *, status: int | None = None) -> Response:
    """Tell the caller what it can mend; the rest is for the log."""
    status = status or status_of(error)
    if status == 503:  # noqa: PLR2004 - Service Unavailable
        log.warning("unavailable", code=error.code, reason=error.message)
        headers = [("Retry-After", str(RETRY_AFTER_SECONDS))]
        return reply(status, code=error.code, message=_UNAVAILABLE, headers=headers)
    if error.fault is not Fault.REQUESTER:
        log.error("request failed", code=error.code, exc_info=error)
        return reply(status, code="internal_error", message=_INTERNAL)
    return reply(
        status,
        code=error.code,
        message=error.message,
        field=getattr(error, "field", None),
        details=getattr(error, "details", None),
        headers=_headers_of(error),
    )


def _headers_of(error: PromptreelError) -> list[tuple[str, str]]:
    match error:
        case Unauthenticated():
            return [("WWW-Authenticate", "Bearer")]
        case TooManyJobs() | TooManyRequests():
            return [("Retry-After", str(error.retry_after_seconds))]
        case _:
            return []


def register_error_handlers(
    place: Scaffold,
    *,
    tell: Callable[[PromptreelError], Response] = reply_to,
    in_words: Callable[[Response], Response] = lambda told: told,
) -> None:
    """For an app; or for a surface that tells some errors by itself, and all of them in its words."""
    place.register_error_handler(PromptreelError, lambda error: in_words(tell(error)))
    place.register_error_handler(HTTPException, lambda error: in_words(_reply_to_http(error)))
    place.register_error_handler(Exception, lambda error: in_words(_reply_to_bug(error)))


def _reply_to_http(error: HTTPException) -> Response:
    status = error.code or 500
    fallback = (error.name.lower().replace(" ", "_"), f"{error.name}.")
    code, message = _ADVICE.get(status, fallback)
    headers = [pair for pair in error.get_headers() if pair[0] != "Content-Type"]
    return reply(status, code=code, message=message, headers=headers)


def _reply_to_bug(error: Exception) -> Response:
    log.error("request failed", exc_info=error)
    return reply(500, code="internal_error", message=_INTERNAL)
