"""A SQLite file opened for many threads and processes: WAL, durable commits, short waits."""

import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import TransientError

_BUSY_INTERVAL_SECONDS = 0.02
_LOOK_INTERVAL_SECONDS = 0.01


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
        self._flush = _Flush(Path(f"{file}-wal"))
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.executescript(schema)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that no power cut takes back."""
        with self.transaction() as connection:
            yield connection
        self.flush()

    def flush(self) -> None:
        """What is committed stays, even if the power goes. Others could see it before that."""
        try:
            self._flush()
        except OSError as error:
            raise self._unavailable("the database cannot be flushed to the disk") from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Holds the write lock from its start; committed unless it raises, but not flushed.

        A crash does not take it back, a power cut may: then all that came later is gone as well.
        """
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

    def changes(self, *, seconds: float, every_seconds: float = math.inf) -> Iterator[None]:
        """Now, whenever somebody has written, once in a while without that, and at the end."""
        with self._connection() as connection:
            now = looked_at = time.monotonic()
            end, seen = now + seconds, None
            while True:
                (version,) = connection.execute("PRAGMA data_version").fetchone()
                if version != seen or now >= min(looked_at + every_seconds, end):
                    looked_at, seen = now, version
                    yield
                if now >= end:
                    return
                time.sleep(min(_LOOK_INTERVAL_SECONDS, end - now))
                now = time.monotonic()

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
            # A commit does not flush: FULL would flush for each writer alone, with the lock held.
            connection.execute("PRAGMA synchronous = NORMAL")
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


class _Flush:
    """Flushes the write-ahead log to disk: one flush for all who ask while another is under way.

    Whoever comes has committed before; a flush that begins afterwards covers it. SQLite holds no lock
    on this file, so closing it gives none away.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._turn = threading.Condition()
        self._begun = self._done = 0  # flushes
        self._flushing = False
        self._failed = False

    def __call__(self) -> None:
        """Raises ``OSError``; after that, what is written is never known to be on the disk."""
        with self._turn:
            wanted = self._begun + 1
            while self._flushing and self._done < wanted:
                self._turn.wait()
            if self._failed:
                raise OSError("an earlier flush has failed")
            if self._done >= wanted:
                return
            self._flushing = True
            self._begun += 1
            number = self._begun
        try:
            self._to_disk()
        except OSError:
            self._failed = True
            raise
        finally:
            with self._turn:
                self._done = number
                self._flushing = False
                self._turn.notify_all()

    def _to_disk(self) -> None:
        try:
            log = os.open(self._log, os.O_RDONLY)
        except FileNotFoundError:
            return  # written into the database, and flushed, by whoever closed it last
        try:
            os.fsync(log)
        finally:
            os.close(log)
