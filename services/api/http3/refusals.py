"""What is refused before the app sees it, in the shape of the app's own errors."""

from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any

from services.api.errors import RETRY_AFTER_SECONDS
from shared.schemas import ErrorDetail, ErrorReply
from shared.telemetry import new_id


class Refusal(Enum):
    HEADERS_TOO_LARGE = (
        431,
        "headers_too_large",
        "The headers are too large. Send fewer, or shorter ones.",
    )
    BODY_TOO_SLOW = (
        408,
        "body_too_slow",
        "The body did not arrive in time. Send it again, on a better connection.",
    )
    TOO_BUSY = (503, "too_busy", "Too many requests are being served. Try again in a few seconds.")


async def refuse(
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]], refusal: Refusal
) -> None:
    status, code, message = refusal.value
    request_id = new_id(128)
    reply = ErrorReply(error=ErrorDetail(code=code, message=message, request_id=request_id))
    body = reply.model_dump_json(exclude_none=True).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode()),
    ]
    if refusal is Refusal.TOO_BUSY:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
