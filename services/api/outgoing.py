"""Files on their way out. Each holds a thread of the server until whoever asked for it has read it."""

import threading
from collections import Counter
from collections.abc import Callable


class OutgoingFiles:
    """So many at once, and not all of them to one address: who does not read keeps nobody else waiting.

    For many threads.
    """

    def __init__(self, *, at_once: int, at_once_per_address: int) -> None:
        self._free = at_once
        self._at_once_per_address = at_once_per_address
        self._to: Counter[str] = Counter()
        self._counting = threading.Lock()

    def begin(self, address: str) -> Callable[[], None] | None:
        """None if there is no room; else what to call, once, when it is over."""
        with self._counting:
            if not self._free or self._to[address] >= self._at_once_per_address:
                return None
            self._free -= 1
            self._to[address] += 1
        return lambda: self._end(address)

    def _end(self, address: str) -> None:
        with self._counting:
            self._free += 1
            self._to[address] -= 1
            if not self._to[address]:
                del self._to[address]


def files_at_once(threads: int) -> int:
    """Of a server that serves so many requests; it has as many threads more."""
    return max(2, threads // 2)


def outgoing_files(threads: int) -> OutgoingFiles:
    at_once = files_at_once(threads)
    return OutgoingFiles(at_once=at_once, at_once_per_address=max(1, at_once * 3 // 4))
