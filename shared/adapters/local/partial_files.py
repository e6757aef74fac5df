"""Files that are still being written. Each is locked by its writer, which tells the living from the dead."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


class PartialFiles:
    """One folder of them, for any number of processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def new(self) -> Iterator[tuple[Path, BinaryIO]]:
        """A new file, gone when the block ends; who wants to keep it links it elsewhere."""
        with self._entrance():
            descriptor, name = tempfile.mkstemp(dir=self._folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield Path(name), file
        finally:
            Path(name).unlink(missing_ok=True)

    def remove_the_dead(self) -> None:
        """Remove what writers that were killed have left."""
        with self._entrance():
            for path in self._folder.iterdir():
                # Its writer may be just done with it.
                with suppress(FileNotFoundError):
                    if _is_unlocked(path):
                        path.unlink()

    @contextmanager
    def _entrance(self) -> Iterator[None]:
        """Between its birth and its lock, a file looks dead: nobody looks then."""
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _is_unlocked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
