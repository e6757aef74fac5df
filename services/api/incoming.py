"""Bodies on their way in. Each holds a thread of the server until it is here, and nobody can hurry it.

The server waits for a body as long as its connection stands: a sender who dribbles, or falls silent, would keep
a thread, and a few of them everybody else. So a body may come slowly only above a rate, and only some may
come at once, few of one sender. For these there are threads beside those that serve.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Protocol

from shared.errors import BodyTooSlow, TooManyRequests

# Read in small blocks: between them it is seen how slowly they come.
_BLOCK_BYTES = 1024
_BYTES_PER_SECOND = 1024
_PATIENCE_SECONDS = 20.0
# A body that is here is usually here at once.
_SLOW_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 10
_IN_MEMORY_BYTES = 1024 * 1024


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, eq=False)
class _Coming:
    sender: str
    since: float


class IncomingBodies:
    """For many threads."""

    def __init__(
        self,
        *,
        at_once: int,
        at_once_per_sender: int,
        patience_seconds: float = _PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_once = at_once
        self._at_once_per_sender = at_once_per_sender
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._coming: set[_Coming] = set()
        self._changed = threading.Condition()

    def receive(self, stream: Stream, *, sender: str, most_bytes: int) -> IO[bytes]:
        """What comes, and no more of it than one byte beyond ``most_bytes``; for the caller to close.

        Raises ``BodyTooSlow``, and ``TooManyRequests`` where too many come at the same time.
        """
        with self._place(sender) as coming:
            body = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - it is returned
            try:
                for block in self._blocks(stream, coming, most_bytes + 1):
                    body.write(block)
            except BaseException:
                body.close()
                raise
        body.seek(0)
        return body

    def _blocks(self, stream: Stream, coming: _Coming, most_bytes: int) -> Iterator[bytes]:
        size_bytes = 0
        while size_bytes < most_bytes:
            block = stream.read(min(_BLOCK_BYTES, most_bytes - size_bytes))
            if not block:
                return
            size_bytes += len(block)
            yield block
            took = self._clock() - coming.since
            if took > self._patience_seconds + size_bytes / _BYTES_PER_SECOND:
                raise BodyTooSlow

    @contextmanager
    def _place(self, sender: str) -> Iterator[_Coming]:
        coming = self._enter(sender)
        try:
            yield coming
        finally:
            with self._changed:
                self._coming.discard(coming)
                self._changed.notify_all()

    def _enter(self, sender: str) -> _Coming:
        """A place among those that come; one that is about to be free is waited for, and no other."""
        until = self._clock() + _SLOW_SECONDS
        with self._changed:
            while (before := self._before(sender)) is not None:
                now = self._clock()
                if now >= until or all(now - each.since > _SLOW_SECONDS for each in before):
                    raise TooManyRequests(retry_after_seconds=_RETRY_AFTER_SECONDS)
                self._changed.wait(until - now)
            coming = _Coming(sender, self._clock())
            self._coming.add(coming)
            return coming

    def _before(self, sender: str) -> set[_Coming] | None:
        """Who must make room first; None if there is room."""
        theirs = {each for each in self._coming if each.sender == sender}
        if len(theirs) >= self._at_once_per_sender:
            return theirs
        return self._coming if len(self._coming) >= self._at_once else None


def bodies_at_once(threads: int) -> int:
    """Of a server that serves so many requests; it has as many threads more."""
    return max(2, threads // 2)


def incoming_bodies(threads: int) -> IncomingBodies:
    at_once = bodies_at_once(threads)
    return IncomingBodies(at_once=at_once, at_once_per_sender=at_once // 2)
