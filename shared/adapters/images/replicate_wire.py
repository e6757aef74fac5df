"""Below Replicate's library: each request is bounded and sent once, and what was said is kept.

By itself the library orders without any timeout, asks again for minutes where a caller waits, and
stumbles over words that it does not know.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

import httpx

from shared.errors import BackendUnavailable, ModelUnavailable, PromptreelError, PromptRefused

# Nothing of the request has left: what is asked for cannot have been done.
UNSENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.LocalProtocolError,
    httpx.UnsupportedProtocol,
)

_CONNECT_SECONDS_MAX = 5.0
# It repeats what was asked, pictures included.
_ANSWER_MAX_BYTES = 64 * 1024 * 1024
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
_GATEWAYS = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})
_MENDED: Mapping[int, str] = MappingProxyType(
    {
        401: "Replicate refuses who asks (401): check images.replicate.api_token_file.",
        402: "Replicate wants to be paid (402): set up billing, or buy credit, for the account of "
        "images.replicate.api_token_file.",
        403: "Replicate lets who asks do less than this (403): check images.model and the rights of "
        "the token in images.replicate.api_token_file.",
    }
)
# How Replicate words it when a filter stops an order before it runs. In a failed prediction more
# words mean that; here they would be names of settings, too.
_FILTERED = re.compile(
    r"flagged as sensitive|\bE005\b|prohibited content|content policy", re.IGNORECASE
)


class NotThere(Exception):
    """404: only who asked knows what is missing."""


class GatewayFailed(BackendUnavailable):
    """Something on the way has answered: what was asked for may have been done."""


class NotUnderstood(Exception):
    """An answer came, and it is not what was asked for."""


class Wire(httpx.BaseTransport):
    """For many threads, each of which reads with ``heard`` what it was told."""

    def __init__(
        self, *, request_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = request_seconds
        self._clock = clock
        connect_seconds = min(_CONNECT_SECONDS_MAX, request_seconds)
        self._timeout = httpx.Timeout(request_seconds, connect=connect_seconds).as_dict()
        self._below = httpx.HTTPTransport()
        self._thread = threading.local()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises ``NotThere``, and our own errors for other answers that are none.

        They are raised here, and not left to the library, because it would ask again.
        """
        request.extensions = {**request.extensions, "timeout": self._timeout}
        until = self._clock() + self._seconds
        reply = self._below.handle_request(request)
        try:
            content = self._read(reply, request, until)
        finally:
            reply.close()
        if reply.status_code == HTTPStatus.NOT_FOUND:
            raise NotThere
        if not reply.is_success:
            raise _meaning(reply.status_code, content)
        self._thread.content = content
        return httpx.Response(reply.status_code, content=content)

    def heard(self, ask: Callable[[], object]) -> object:
        """The JSON that this thread is answered with while it asks, whatever the library makes of it.

        Raises ``NotUnderstood``, without a word of it, where it is no JSON.
        """
        self._thread.content = None
        try:
            ask()
        except (ValueError, TypeError, RecursionError):
            # The library's own model of an answer is narrower than what Replicate says.
            if self._thread.content is None:
                raise
        try:
            return json.loads(self._thread.content)
        except (ValueError, RecursionError):
            raise NotUnderstood from None

    def close(self) -> None:
        self._below.close()

    def _read(self, reply: httpx.Response, request: httpx.Request, until: float) -> bytes:
        content = bytearray()
        for chunk in reply.iter_bytes():
            content += chunk
            if self._clock() > until or len(content) > _ANSWER_MAX_BYTES:
                raise httpx.ReadTimeout("The answer does not end.", request=request)
        return bytes(content)


def _meaning(code: int, content: bytes) -> PromptreelError:
    """What to raise for an answer that is neither 2xx nor 404."""
    if code in _GATEWAYS:
        return GatewayFailed(f"Replicate cannot be reached ({code}).")
    if code in _AGAIN or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return BackendUnavailable(f"Replicate has no room for it, or failed ({code}).")
    if code in _MENDED:
        return ModelUnavailable(_MENDED[code])
    if code < HTTPStatus.BAD_REQUEST:
        return ModelUnavailable(
            f"Replicate is not where it is looked for ({code}): check images.replicate.base_url."
        )
    if _FILTERED.search(_detail(content)):
        return PromptRefused(
            "The provider's safety filter stopped the prompt or its picture. Change the prompt."
        )
    # The operator's: what callers may choose is checked before anything is sent.
    return ModelUnavailable(
        f"Replicate does not accept the request ({code}): check images.model and "
        "server.public_url, where webhooks go, by HTTPS."
    )


def _detail(content: bytes) -> str:
    try:
        problem = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    return str(problem.get("detail")) if isinstance(problem, dict) else ""
