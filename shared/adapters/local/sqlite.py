"""A SQLite file opened for many threads and processes: WAL, durable commits, short waits."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import TransientError

_BUSY_TIMEOUT_SECONDS = 10.0


class Database:
    """One connection a thread. ``unavailable`` is raised in place of SQLite's own errors."""

    def __init__(
        self, file: Path, schema: str, *, unavailable: Callable[[str], TransientError]
    ) -> None:
        self._file = file
        self._unavailable = unavailable
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._translated():
            self._connection().executescript(schema)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; committed unless it raises."""
        with self._translated():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for single statements."""
        with self._translated():
            yield self._connection()

    def close(self) -> None:
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()
            self._local = threading.local()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._file,
                timeout=_BUSY_TIMEOUT_SECONDS,
                isolation_level=None,  # transactions are begun and ended here, not guessed
                check_same_thread=False,  # `close` may come from another thread
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            # FULL: what was accepted survives a power cut, not only a crash.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
            with self._lock:
                self._open.append(connection)
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # The file's name stays out of it: this message may reach a caller.
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
            raise self._unavailable(f"the database cannot be used ({reason})") from error
