"""Where the document of keys is kept: a file here; Secret Manager is in ``secret_source.py``."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.api.keys.document import Change, KeyDocument, new_key
from shared.errors import ConfigurationError

_HOW_TO_MEND = "make a key with `promptreel keys create OWNER`, or restore it from a backup"


class KeySource(Protocol):
    """The document of keys, whoever keeps it."""

    def load(self) -> KeyDocument:
        """Raises ``ConfigurationError``, and ``KeysUnavailable`` where it may be there later."""

    def version(self) -> object:
        """What differs as soon as ``load`` may give another one, if that is quickly told; else always the same."""

    def edit(self, change: Change) -> None:
        """Keep what the change makes of it, whoever else is at it. Raises as ``load``, and what it raises."""


def create_key(source: KeySource, owner: str, now: datetime) -> str:
    """Add a key for an owner that may do everything, and return it: the only time it can be read."""
    key, entry = new_key(owner, now)
    source.edit(lambda document: document.with_key(entry))
    return key


class KeyFile:
    """A file. On Cloud Run a mounted secret, which is only read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def load(self) -> KeyDocument:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            problem = f"there is no API key yet; {_HOW_TO_MEND}"
            raise ConfigurationError(self._file, [("", problem)]) from None
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise ConfigurationError(self._file, [("", reason)]) from error
        try:
            return KeyDocument.read(text)
        except ValueError:
            problem = f"is not a key file; {_HOW_TO_MEND}"
            raise ConfigurationError(self._file, [("", problem)]) from None

    def version(self) -> object:
        try:
            status = self._file.stat()
        except OSError:
            return object()  # like none before
        # A rewrite within one tick of the clock still changes the inode.
        return status.st_mtime_ns, status.st_size, status.st_ino

    def edit(self, change: Change) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._file.parent):
                document = self.load() if self._file.exists() else KeyDocument()
                self._write(change(document))
        except OSError as error:
            reason = f"cannot be written: {error.strerror}"
            raise ConfigurationError(self._file, [("", reason)]) from error

    def _write(self, document: KeyDocument) -> None:
        """Put the whole file there in one step; mkstemp makes it readable by its user only."""
        descriptor, name = tempfile.mkstemp(dir=self._file.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as made:
                made.write(document.written())
                made.flush()
                os.fsync(made.fileno())
            Path(name).replace(self._file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two processes that change the file at the same time both have their change kept."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
