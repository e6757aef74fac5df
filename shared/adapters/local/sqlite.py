"""A SQLite file opened for many threads and processes: WAL, durable commits, short waits."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import TransientError

_BUSY_INTERVAL_SECONDS = 0.02


class Database:
    """One connection a running call. ``unavailable`` is raised in place of SQLite's own errors.

    Connections are kept for the next call, not for a thread: servers and event loops let threads
    come and go, and a connection a thread would stay open after it.
    """

    def __init__(
        self,
        file: Path,
        schema: str,
        *,
        unavailable: Callable[[str], TransientError],
        busy_timeout_seconds: float = 10.0,
    ) -> None:
        """``busy_timeout_seconds``: how long a call waits for others to finish writing."""
        self._file = file
        self._unavailable = unavailable
        self._busy_timeout_seconds = busy_timeout_seconds
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        # SQLite's waiters sleep and try again; in one process, a lock wakes the next one at once.
        self._writing = threading.Lock()
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.executescript(schema)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; committed unless it raises."""
        if not self._writing.acquire(timeout=self._busy_timeout_seconds):
            raise self._unavailable("the database cannot be used (another call is still writing)")
        try:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.commit()
                except BaseException:
                    connection.rollback()
                    raise
        finally:
            self._writing.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for single statements."""
        with self._connection() as connection:
            yield connection

    def close(self) -> None:
        """Close what is idle; what is in use closes when its call is over."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._borrow()
            try:
                yield connection
            except sqlite3.Error:
                connection.close()  # Whatever is wrong with it, the next call starts afresh.
                raise
            except BaseException:
                self._give_back(connection)
                raise
            self._give_back(connection)
        except sqlite3.Error as error:
            # The file's name stays out of it: this message may reach a caller.
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
            raise self._unavailable(f"the database cannot be used ({reason})") from error

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file,
            timeout=self._busy_timeout_seconds,
            isolation_level=None,  # transactions are begun and ended here, not guessed
            check_same_thread=False,  # one call at a time uses it, whichever thread makes the call
        )
        try:
            connection.row_factory = sqlite3.Row
            self._use_write_ahead_log(connection)
            # FULL: what was accepted survives a power cut, not only a crash.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        # The one statement SQLite's own busy timeout does not wait for, when processes start together.
        deadline = time.monotonic() + self._busy_timeout_seconds
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_BUSY_INTERVAL_SECONDS)
            else:
                return
