"""A snapshot's weights, on their way into memory while torch is still being imported.

Reading gigabytes into fresh memory takes longer than reading them: so the file is first brought into
the page cache, by several threads, since one alone does not keep a disk busy. From there a CPU uses it
where it lies, and a GPU is given it through a few small buffers.
"""

import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

_THREADS = 8
_CHUNK_BYTES = 8 * 2**20


class WeightsFile:
    """Begins to be read at once. A context: what was not read when it ends is given up."""

    def __init__(self, file: Path, size_bytes: int) -> None:
        """Raises ``OSError``."""
        self.size_bytes = size_bytes
        self._descriptor = os.open(file, os.O_RDONLY)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="weights")
        self._buffers = threading.local()
        self._first_reading = self._in_chunks(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        os.close(self._descriptor)

    def map(self) -> memoryview:
        """The file as memory, all of it read; it begins on a page, and outlives this context.

        Raises ``OSError`` when it cannot be read or is shorter than said.
        """
        _wait_for(self._first_reading)
        # Private: whoever writes to it writes to a copy of his own.
        memory = mmap.mmap(self._descriptor, self.size_bytes, access=mmap.ACCESS_COPY)
        return memoryview(memory)

    def read_into(self, take: Callable[[int, memoryview], None]) -> None:
        """Give each piece of the file to ``take``, with where it begins, in any order.

        Pieces come from several threads at once, and are valid only during the call. Not to be
        followed by ``map``. Raises what it raises, and what ``take`` does.
        """

        def read(start: int, end: int) -> None:
            take(start, self._read(start, end))

        for reading in self._first_reading:
            reading.cancel()  # What is not in the page cache by now need not come there first.
        _wait_for(self._in_chunks(read))

    def _in_chunks(self, work: Callable[[int, int], object]) -> list[Future[object]]:
        return [
            self._pool.submit(work, start, min(start + _CHUNK_BYTES, self.size_bytes))
            for start in range(0, self.size_bytes, _CHUNK_BYTES)
        ]

    def _read(self, start: int, end: int) -> memoryview:
        """Into this thread's own buffer, where it stays until the thread reads again."""
        if not hasattr(self._buffers, "mine"):
            self._buffers.mine = bytearray(_CHUNK_BYTES)
        piece = memoryview(self._buffers.mine)[: end - start]
        done = 0
        while done < len(piece):
            count = os.preadv(self._descriptor, [piece[done:]], start + done)
            if not count:
                raise OSError("the file is shorter than its manifest says")
            done += count
        return piece


def _wait_for(readings: list[Future[object]]) -> None:
    for reading in readings:
        reading.result()
