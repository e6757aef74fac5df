"""What can go wrong for a client.

ClientError
├── CannotReach            no answer, or half of one
├── BrokenDownload         a file that did not come as it was promised
└── ApiError               the server answered with an error; the message is its own
    ├── WrongKey           401, 403
    ├── NotThere           404, 410: no such job, no such file, not yet or not any more
    ├── Conflict           409
    ├── LimitReached       429
    ├── Unavailable        5xx
    └── Unreadable         a reply that is not of this API

Messages name the server by its host, never a key, a signed link or a prompt.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.schemas import ErrorReply

_SERVER_ERRORS = 500


class ClientError(Exception):
    """The root; the message says what to do."""

    @property
    def message(self) -> str:
        return str(self)


class CannotReach(ClientError):
    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host} cannot be reached ({reason}). Check the address and the network.")


class BrokenDownload(ClientError):
    """What came is not what was promised; another try goes on, or starts over."""


class ApiError(ClientError):
    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        request_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


class WrongKey(ApiError):
    pass


class NotThere(ApiError):
    pass


class Conflict(ApiError):
    pass


class LimitReached(ApiError):
    pass


class Unavailable(ApiError):
    pass


class Unreadable(ApiError):
    def __init__(self, status: int) -> None:
        super().__init__(
            status,
            "unreadable_reply",
            "The reply cannot be read. Check that this is a Promptreel server of a fitting version.",
        )


_KINDS: Mapping[int, type[ApiError]] = {
    401: WrongKey,
    403: WrongKey,
    404: NotThere,
    409: Conflict,
    410: NotThere,
    429: LimitReached,
}


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> ApiError:
    """The error that a reply is. A proxy's, or a bucket's, has no words for us: the status is all."""
    kind = Unavailable if status >= _SERVER_ERRORS else _KINDS.get(status, ApiError)
    wait = _retry_after(headers.get("Retry-After"), datetime.now(UTC))
    try:
        detail = ErrorReply.model_validate_json(content).error
    except ValueError:
        return kind(
            status,
            "unknown_error",
            f"The server answered {status} without saying why. Check its address.",
            headers.get("X-Request-ID"),
            wait,
        )
    return kind(status, detail.code, detail.message, detail.request_id, wait)


def _retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds, of a number or of a date; None for what is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - now).total_seconds(), 0.0)
