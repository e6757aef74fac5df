"""What goes wrong between a client and the server, on purpose: each fault befalls one request."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import InputStream, StartResponse, WSGIApplication, WSGIEnvironment

_HOLD_SECONDS = 60.0
_CHUNK_BYTES = 64 * 1024
_LAST_CHUNK = re.compile(r"bytes \d+-(\d+)/(\d+)")


@dataclass(frozen=True)
class _Fault:
    befalls: "Callable[[WSGIEnvironment], bool]"
    run: "Callable[[WSGIApplication, WSGIEnvironment, StartResponse], Iterable[bytes]]"


class Faults:
    """The faults to come, in the order they were asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coming: list[_Fault] = []

    def around(self, app: "WSGIApplication") -> "WSGIApplication":
        """The same application, with faults."""

        def faulty(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
            fault = self._take(environ)
            return app(environ, start) if fault is None else fault.run(app, environ, start)

        return faulty

    @property
    def pending(self) -> int:
        """How many have not happened yet."""
        return len(self._coming)

    def fail(
        self, count: int = 1, *, path: str = "/", status: str = "503 Service Unavailable"
    ) -> None:
        """The next requests below a path are read and answered with an error."""

        def run(
            _app: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse"
        ) -> Iterable[bytes]:
            _drain(environ)
            start(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return [b""]

        self._coming += [_Fault(_below(path), run)] * count

    def delay(self, seconds: float, *, path: str = "/") -> None:
        """The next request below a path waits before anybody looks at it."""

        def run(
            app: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse"
        ) -> Iterable[bytes]:
            time.sleep(seconds)
            return app(environ, start)

        self._coming.append(_Fault(_below(path), run))

    def cut_upload(self, *, after_bytes: int) -> None:
        """The next upload with a longer body loses its connection in the middle of it."""

        def run(
            app: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse"
        ) -> Iterable[bytes]:
            environ["wsgi.input"] = _Body(environ["wsgi.input"], after_bytes, lambda: False)
            return _unheard(app, environ, start)

        self._coming.append(_Fault(_upload_longer_than(after_bytes), run))

    def cut_answer(self) -> None:
        """The next request that completes an upload is done, and nobody hears of it."""
        self._coming.append(_Fault(_completes_an_upload, _unheard))

    @contextmanager
    def hold_upload(self, *, after_bytes: int) -> Iterator[Callable[[], None]]:
        """The next upload with a longer body stands still in the middle of it until the end.

        What is yielded returns once it does.
        """
        reached, released = threading.Event(), threading.Event()

        def run(
            app: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse"
        ) -> Iterable[bytes]:
            def wait() -> bool:
                reached.set()
                return released.wait(_HOLD_SECONDS)

            environ["wsgi.input"] = _Body(environ["wsgi.input"], after_bytes, wait)
            return app(environ, start)

        def wait_until_it_stands() -> None:
            if not reached.wait(_HOLD_SECONDS):
                raise TimeoutError

        self._coming.append(_Fault(_upload_longer_than(after_bytes), run))
        try:
            yield wait_until_it_stands
        finally:
            released.set()

    def _take(self, environ: "WSGIEnvironment") -> _Fault | None:
        with self._lock:
            for fault in self._coming:
                if fault.befalls(environ):
                    self._coming.remove(fault)
                    return fault
        return None


class _Body:
    """A request's body with something happening in the middle of it."""

    def __init__(self, body: "InputStream", after_bytes: int, event: Callable[[], bool]) -> None:
        self._body = body
        self._bytes_left = after_bytes
        self._event = event
        self._happened = False
        self._goes_on = True

    def read(self, size: int = -1) -> bytes:
        if not self._happened and self._bytes_left == 0:
            self._happened = True
            self._goes_on = self._event()
        if not self._goes_on:
            return b""
        if self._happened:
            return self._body.read(size)
        chunk = self._body.read(self._bytes_left if size < 0 else min(size, self._bytes_left))
        self._bytes_left -= len(chunk)
        return chunk


def _below(path: str) -> "Callable[[WSGIEnvironment], bool]":
    return lambda environ: environ["PATH_INFO"].startswith(path)


def _upload_longer_than(size_bytes: int) -> "Callable[[WSGIEnvironment], bool]":
    return lambda environ: (
        environ["PATH_INFO"].startswith("/upload/")
        and int(environ.get("CONTENT_LENGTH") or 0) > size_bytes
    )


def _completes_an_upload(environ: "WSGIEnvironment") -> bool:
    if not environ["PATH_INFO"].startswith("/upload/"):
        return False
    chunk = _LAST_CHUNK.fullmatch(environ.get("HTTP_CONTENT_RANGE", ""))
    if chunk:
        return int(chunk[1]) + 1 == int(chunk[2])
    return "uploadType=resumable" not in environ["QUERY_STRING"]


def _drain(environ: "WSGIEnvironment") -> None:
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left > 0 and (chunk := environ["wsgi.input"].read(min(left, _CHUNK_BYTES))):
        left -= len(chunk)


def _unheard(
    app: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse"
) -> Iterable[bytes]:
    """The request is looked at; instead of an answer, the server closes the connection."""
    list(app(environ, start))
    raise ConnectionResetError
