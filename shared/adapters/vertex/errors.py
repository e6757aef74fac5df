"""What Vertex AI's errors mean to us: whose fault, and whether to ask again.

Of Google's own words only those of fixed vocabularies are passed on (``PERMISSION_DENIED``,
``API_KEY_INVALID``): its sentences may quote the prompt. Imported late: google.genai takes a second.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
from google.auth.exceptions import GoogleAuthError, TransportError
from google.genai.errors import APIError

from shared.adapters.vertex.retries import Failure, MalformedAnswer, NoAnswer
from shared.errors import BackendUnavailable, ModelUnavailable, PromptreelError, PromptRefused

# The client reads answers without looking whether they are what they should be: what it stumbles
# over then are these (pydantic's and json's errors are ValueErrors).
_STUMBLED = (MalformedAnswer, ValueError, TypeError, AttributeError, LookupError)

# The last one is about a token, without which nothing is asked.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, TransportError)

EXPECTED = (APIError, GoogleAuthError, httpx.HTTPError, *_STUMBLED)

_CANCELED = 499  # Google's own
# Google answers with 200 and nothing else below 400: the rest is from something on the way.
_AGAIN = frozenset(range(100, 400)) | {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, _CANCELED}
_NEVER = HTTPStatus.NOT_IMPLEMENTED

# An operation's error counts by gRPC: https://grpc.io/docs/guides/status-codes/
_HTTP_OF_GRPC = {
    1: _CANCELED, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429,
    9: 400, 10: 409, 11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401,
}  # fmt: skip

# How Google says that a filter stopped something; the status of such an error is a plain 400.
_FILTERED = re.compile(
    r"usage guidelines|responsible ai|sensitive words|safety (filter|setting)|prohibited content"
    r"|(prompt|image|content) .{0,40}\b(blocked|violates?)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[A-Z][A-Z0-9_]{2,63}")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s?")


def judge(error: Exception, *, missing: PromptreelError, now: datetime) -> Failure:
    """What to raise for one of ``EXPECTED``, and whether to ask again before."""
    match error:
        case APIError():
            meaning = _meaning(error.code, error.details) or missing
            return Failure(
                meaning,
                ask_again=meaning.retry and meaning is not missing,
                retry_after_seconds=_retry_after_seconds(error, now),
            )
        case httpx.TimeoutException():
            return _lost(error, "Vertex AI did not answer in time.")
        case httpx.HTTPError() | TransportError():
            return _lost(error, "Vertex AI cannot be reached.")
        case GoogleAuthError(retryable=True):
            return _again("Google gives no token at the moment.")
        case GoogleAuthError():
            return Failure(_who_asks("Google gives no token to who asks Vertex AI"))
        case _:
            why = f"Vertex AI gave an answer that cannot be used ({type(error).__name__})."
            return Failure(BackendUnavailable(why), ask_again=True, malformed=True)


def operation_error(status: Mapping[str, object]) -> PromptreelError:
    """What the error of an operation that ended means."""
    grpc = status.get("code")
    code = _HTTP_OF_GRPC.get(grpc, 500) if isinstance(grpc, int) else 500
    meaning = _meaning(code, {"error": status})
    return meaning or ModelUnavailable(
        "Vertex AI did not find what the request names: check vertex.output_gcs_uri and "
        "vertex.location."
    )


def refused(what: str) -> PromptRefused:
    return PromptRefused(f"The provider's safety filter stopped {what}. Change the prompt.")


def _again(message: str) -> Failure:
    return Failure(BackendUnavailable(message), ask_again=True)


def _lost(error: Exception, message: str) -> Failure:
    if isinstance(error, _NEVER_SENT):
        return _again(message)
    return Failure(NoAnswer(message), ask_again=True)


def _meaning(code: int, details: object) -> PromptreelError | None:
    """None for 404: only who asked knows what is missing."""
    said = _said(code, details)
    if code == HTTPStatus.NOT_FOUND:
        return None
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _who_asks(f"Vertex AI refuses who asks ({said})")
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return BackendUnavailable(f"Vertex AI has no capacity or quota left ({said}).")
    if code in _AGAIN or (code >= HTTPStatus.INTERNAL_SERVER_ERROR and code != _NEVER):
        return BackendUnavailable(f"Vertex AI failed ({said}).")
    if code == HTTPStatus.BAD_REQUEST and _FILTERED.search(_message(details)):
        return refused("the prompt or its image")
    # The operator's: what callers may choose is checked before anything is sent. What is left are
    # an invalid API key (400 at Google), a bucket that is none, a model that knows no such setting.
    return ModelUnavailable(
        f"Vertex AI does not accept the request ({said}): check vertex.api_key_file, "
        "vertex.output_gcs_uri and the model's name (vertex.veo_model, planner or "
        "image_generation_model)."
    )


def _who_asks(problem: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{problem}: check vertex.project, vertex.credentials_file and vertex.api_key_file; the "
        "account needs the role roles/aiplatform.user, the project the Vertex AI API."
    )


def _said(code: int, details: object) -> str:
    """The code, and Google's words for it: "403 PERMISSION_DENIED, SERVICE_DISABLED"."""
    status = _status(details)
    words = [status.get("status"), *(detail.get("reason") for detail in _details(status))]
    known = [word for word in words if isinstance(word, str) and _WORD.fullmatch(word)]
    return " ".join([str(code), ", ".join(dict.fromkeys(known))]).strip()


def _retry_after_seconds(error: APIError, now: datetime) -> float | None:
    """By the header, in seconds or as a date, or by Google's ``RetryInfo``."""
    asked = getattr(error.response, "headers", {}).get("Retry-After")
    if asked is None:
        delays = (detail.get("retryDelay") for detail in _details(_status(error.details)))
        asked = next((delay for delay in delays if isinstance(delay, str)), None)
    if asked is None:
        return None
    if seconds := _SECONDS.fullmatch(asked.strip()):
        return float(seconds[1])
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)


def _status(details: object) -> Mapping[str, object]:
    """Google's ``Status``, wherever the client has left it."""
    if isinstance(details, list) and len(details) == 1:
        details = details[0]
    if not isinstance(details, Mapping):
        return {}
    error = details.get("error", details)
    return error if isinstance(error, Mapping) else {}


def _details(status: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    details = status.get("details")
    if isinstance(details, list):
        yield from (detail for detail in details if isinstance(detail, Mapping))


def _message(details: object) -> str:
    message = _status(details).get("message")
    return message if isinstance(message, str) else ""
