"""A large file into memory by several threads at once: one alone does not keep a disk busy.

It can begin before torch is imported, which takes a second of its own.
"""

import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

_THREADS = 8
_CHUNK_BYTES = 16 * 2**20


class ParallelRead:
    """Starts at once. The memory begins on a page, so whatever is aligned in the file is in it."""

    def __init__(self, file: Path, size_bytes: int) -> None:
        """Raises ``OSError``."""
        self._memory = mmap.mmap(-1, max(size_bytes, 1))
        self._view = memoryview(self._memory)[:size_bytes]
        self._descriptor = os.open(file, os.O_RDONLY)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
        self._chunks: list[Future[None]] = [
            self._pool.submit(self._read, start, min(start + _CHUNK_BYTES, size_bytes))
            for start in range(0, size_bytes, _CHUNK_BYTES)
        ]

    def wait(self) -> memoryview:
        """All of it. Raises ``OSError`` when the file cannot be read or is shorter than said."""
        for chunk in self._chunks:
            chunk.result()
        return self._view

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """What was read stays; what was not is given up."""
        self._pool.shutdown(cancel_futures=True)
        os.close(self._descriptor)

    def _read(self, start: int, end: int) -> None:
        while start < end:
            count = os.preadv(self._descriptor, [self._view[start:end]], start)
            if not count:
                raise OSError("the file is shorter than its manifest says")
            start += count
