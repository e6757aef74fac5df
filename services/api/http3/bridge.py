"""The Flask app as ASGI: its requests whole before a thread is taken, its replies as they come."""

import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from typing import IO, Any, cast
from urllib.parse import quote_from_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import anyio

from services.api.http3.refusals import Refusal, refuse

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Hypercorn's own, for the event loop it runs on: it makes the environ, and calls the app in a thread.
Caller = Callable[[Message, Receive, Send], Awaitable[None]]

_IN_MEMORY_BYTES = 64 * 1024
_READ_AT_ONCE_BYTES = 64 * 1024
_HEADERS_MAX_BYTES = 64 * 1024
# Each may have a body on disk: more than these are not taken in.
_IN_WORK_PER_THREAD = 8
# What a caller may take to fetch the next piece of a reply.
_STALLED_SECONDS = 60
_OF_THE_BODY = frozenset({b"content-length", b"transfer-encoding"})
_PRINTABLE = bytes(range(0x21, 0x7F)).decode()


class CallerGone(Exception):
    """Nobody reads the reply any more. Ends the app's iterable, so that its thread is free again."""


class Bridge:
    """The app, called by Hypercorn. ``threads`` requests are served at once, some others wait."""

    def __init__(
        self, call: Caller, *, threads: int, body_max_bytes: int, body_seconds: float
    ) -> None:
        self._call = call
        self._body_max_bytes = body_max_bytes
        self._body_seconds = body_seconds
        self._free = anyio.CapacityLimiter(threads)
        self._most = threads * _IN_WORK_PER_THREAD
        self._in_work = 0
        self._ended = anyio.Event()  # of one of those

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "http":
                self._in_work += 1
                try:
                    await self._answer(scope, receive, send)
                finally:
                    self._in_work -= 1
                    self._ended.set()
                    self._ended = anyio.Event()
            case "websocket":
                await send({"type": "websocket.close"})

    async def until_idle(self) -> None:
        while self._in_work:
            await self._ended.wait()

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        if self._in_work > self._most:
            await refuse(send, Refusal.TOO_BUSY)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADERS_MAX_BYTES:
            await refuse(send, Refusal.HEADERS_TOO_LARGE)
            return
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as body:
            try:
                with anyio.fail_after(self._body_seconds):
                    size = await _read(receive, cast("IO[bytes]", body), self._body_max_bytes)
            except TimeoutError:
                await refuse(send, Refusal.BODY_TOO_SLOW)
            except CallerGone:
                return
            else:
                body.seek(0)
                asked = _as_app_reads_it(scope, size=size)
                await self._serve(asked, cast("IO[bytes]", body), receive, send)

    async def _serve(self, scope: Message, body: IO[bytes], receive: Receive, send: Send) -> None:
        """Wait for a thread and have the app answer there, for as long as somebody listens."""
        gone = False
        in_vain = anyio.CancelScope()  # what is waited for now, were nobody to listen any more

        async def read() -> Message:
            data = body.read(_READ_AT_ONCE_BYTES)
            return {"type": "http.request", "body": data, "more_body": bool(data)}

        async def tell(message: Message) -> None:
            nonlocal gone, in_vain
            if gone:
                raise CallerGone
            with anyio.move_on_after(_STALLED_SECONDS) as in_vain:
                await send(message)
            if in_vain.cancelled_caught:
                gone = True
                raise CallerGone

        async def notice() -> None:
            nonlocal gone
            while (await receive())["type"] != "http.disconnect":
                pass
            gone = True
            in_vain.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notice)
            with in_vain:
                async with self._free:
                    # From here on it is the app that is waited for, until it has something to say.
                    in_vain = anyio.CancelScope()
                    with suppress(CallerGone):
                        await self._call(scope, read, tell)
            tasks.cancel_scope.cancel()


def never_empty(app: WSGIApplication) -> WSGIApplication:
    """Hypercorn's caller starts a reply with its first piece: HEAD and 204 have none."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return _Pieces(app(environ, start_response))

    return call


class _Pieces:
    """Those of the app; an empty one if there are none."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        is_empty = True
        for piece in self._pieces:
            is_empty = False
            yield piece
        if is_empty:
            yield b""

    def close(self) -> None:
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()


async def _read(receive: Receive, body: IO[bytes], max_bytes: int) -> int:
    """The size of the body; what is beyond ``max_bytes`` is read, too, but not kept."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        data = message.get("body", b"")
        size += len(data)
        if size > max_bytes:
            body.truncate(0)
        else:
            body.write(data)
        if not message.get("more_body"):
            return size


def _as_app_reads_it(scope: Message, *, size: int) -> Message:
    """The request with its true length; of a body that is too long, that is all the app is told.

    It refuses such a one in its own words. A name with an underscore could pass for another header.
    """
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name not in _OF_THE_BODY and b"_" not in name
    ]
    if size or any(name in _OF_THE_BODY for name, _ in scope["headers"]):
        headers.append((b"content-length", str(size).encode()))
    query = quote_from_bytes(scope["query_string"], safe=_PRINTABLE).encode()
    return {**scope, "headers": headers, "query_string": query}
