"""The job store in one SQLite file.

The whole job is one JSON document; the columns beside it are what queries need, written from the
same job in the same statement, so they cannot disagree with it.
"""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from shared.adapters.local import (
    sqlite_admission,
    sqlite_endpoints,
    sqlite_pages,
    sqlite_usage,
)
from shared.adapters.local.sqlite import Database
from shared.admission import NO_LIMITS, AdmissionLimits, check_limits
from shared.errors import IdempotencyConflict, JobNotFound, StoreUnavailable
from shared.job import Job, JobKind, JobStatus, from_document, to_document
from shared.ledger import entries_made, entries_of
from shared.ports import Admitted, JobPage, LogLine, WorkerBeat
from shared.webhook import WebhookEndpoint

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    idempotency_key TEXT,
    status TEXT NOT NULL,
    created_at REAL NOT NULL,
    due_at REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_idempotency ON jobs (owner, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due_at);
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner, created_at DESC);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status);

CREATE TABLE IF NOT EXISTS log_lines (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    line TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS log_lines_job ON log_lines (job_id, sequence);

CREATE TABLE IF NOT EXISTS workers (
    instance TEXT PRIMARY KEY,
    seen_at REAL NOT NULL,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS key_uses (
    key_id TEXT PRIMARY KEY,
    used_at REAL NOT NULL
) STRICT;
"""

_LARGEST_NUMBER = 2**63 - 1  # that SQLite can be asked for
_WORKER_MEMORY_SECONDS = 24 * 3600


class SqliteJobs:
    """A ``JobStore``."""

    def __init__(self, file: Path, *, log_lines_per_job: int = 2000) -> None:
        schema = (
            _SCHEMA
            + sqlite_admission.INDEXES
            + sqlite_pages.INDEX
            + sqlite_usage.SCHEMA
            + sqlite_endpoints.SCHEMA
        )
        self._database = Database(file, schema, unavailable=StoreUnavailable)
        self._log_lines_per_job = log_lines_per_job
        self._queues = sqlite_admission.Queues()
        self._beats = TypeAdapter(WorkerBeat)

    def admit(self, job: Job, limits: AdmissionLimits = NO_LIMITS) -> Admitted:
        with self._database.write() as connection:
            if job.idempotency_key is not None:
                row = connection.execute(
                    "SELECT document FROM jobs WHERE owner = ? AND idempotency_key = ?",
                    (job.owner, job.idempotency_key),
                ).fetchone()
                if row is not None:
                    return Admitted(job=_same_request(job, row), created=False)
            standing = sqlite_admission.standing(connection, job, limits)
            check_limits(job, limits, standing, ended_since=self.ended_since)
            _insert(connection, job)
            sqlite_usage.enter(connection, entries_of(job))
        return Admitted(job=job, created=True)

    def get(self, job_id: str) -> Job:
        with self._database.read() as connection:
            return _select(connection, job_id)

    def update(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        with self._database.transaction() as connection:
            stored = _select(connection, job_id)
            changed = transition(stored)
            if changed != stored:
                connection.execute(
                    "UPDATE jobs SET status = ?, due_at = ?, document = ? WHERE id = ?",
                    (changed.status, changed.due_at.timestamp(), to_document(changed), job_id),
                )
                sqlite_usage.enter(connection, entries_made(stored, changed))
        if not _is_said_again(stored, changed):
            self._database.flush()
        return changed

    def delete(self, job_id: str) -> None:
        with self._database.write() as connection:
            connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def list(
        self,
        owner: str,
        *,
        kind: JobKind,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
        statuses: Collection[JobStatus] | None = None,
    ) -> JobPage:
        with self._database.read() as connection:
            last = None if after is None else _select(connection, after)
            if last is not None and (last.owner, last.kind) != (owner, kind):
                raise JobNotFound
            # One more than the page holds tells whether there is another page.
            rows = sqlite_pages.rows(
                connection,
                owner,
                kind,
                limit=limit + 1,
                after=last,
                newest_first=newest_first,
                statuses=statuses,
            )
        jobs = [from_document(row["document"]) for row in rows]
        return JobPage(jobs=jobs[:limit], has_more=len(jobs) > limit)

    def due(self, now: datetime, *, limit: int, statuses: Collection[JobStatus]) -> Sequence[Job]:
        query = "SELECT document FROM jobs WHERE due_at <= ?"
        # The plus keeps SQLite to the index of moments: by that of statuses, all would be sorted.
        query += f" AND +status IN ({', '.join('?' * len(statuses))}) ORDER BY due_at LIMIT ?"
        with self._database.read() as connection:
            rows = connection.execute(query, (now.timestamp(), *statuses, limit)).fetchall()
        return [from_document(row["document"]) for row in rows]

    def counts(self) -> Mapping[JobStatus, int]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT status, count(*) FROM jobs GROUP BY status")
            found = {JobStatus(status): count for status, count in rows}
        return {status: found.get(status, 0) for status in JobStatus}

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        with self._database.read() as connection:
            return sqlite_admission.ended_since(connection, since, model=model, owner=owner)

    def queued_before(self, model: str, moments: Sequence[datetime]) -> Sequence[int]:
        with self._database.read() as connection:
            return self._queues.before(connection, model, moments)

    def used(self, owner: str, month: str) -> int:
        with self._database.read() as connection:
            return sqlite_usage.used(connection, owner, month)

    def watch(self, job_id: str, *, timeout_seconds: float) -> Iterator[Job]:
        seen: Job | None = None
        for _ in self._database.changes(seconds=timeout_seconds):
            job = self.get(job_id)
            if job != seen:
                seen = job
                yield job
            if job.status.is_terminal:
                return

    def append_log(self, job_id: str, lines: Sequence[str], *, now: datetime) -> None:
        moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._database.transaction() as connection:
            _select(connection, job_id)
            connection.executemany(
                "INSERT INTO log_lines (job_id, line) VALUES (?, ?)",
                [(job_id, f"{moment} {line}") for line in lines],
            )
            connection.execute(
                "DELETE FROM log_lines WHERE job_id = ?1 AND sequence <= ("
                " SELECT sequence FROM log_lines WHERE job_id = ?1"
                " ORDER BY sequence DESC LIMIT 1 OFFSET ?2)",
                (job_id, self._log_lines_per_job),
            )

    def tail_log(self, job_id: str, *, tail: int) -> Sequence[str]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT line FROM log_lines WHERE job_id = ? ORDER BY sequence DESC LIMIT ?",
                (job_id, tail),
            ).fetchall()
        return [row["line"] for row in reversed(rows)]

    def read_log(self, job_id: str, *, after: int, limit: int) -> Sequence[LogLine]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT sequence, line FROM log_lines WHERE job_id = ? AND sequence > ?"
                " ORDER BY sequence LIMIT ?",
                (job_id, min(after, _LARGEST_NUMBER), limit),
            ).fetchall()
        return [LogLine(row["sequence"], row["line"]) for row in rows]

    def beat(self, beat: WorkerBeat) -> None:
        document = self._beats.dump_json(beat).decode()
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO workers (instance, seen_at, document) VALUES (?, ?, ?)"
                " ON CONFLICT (instance) DO UPDATE"
                " SET seen_at = excluded.seen_at, document = excluded.document",
                (beat.instance, beat.seen_at.timestamp(), document),
            )
            # Every start of a worker is a new instance; the long silent are of no interest.
            silent_since = beat.seen_at.timestamp() - _WORKER_MEMORY_SECONDS
            connection.execute("DELETE FROM workers WHERE seen_at < ?", (silent_since,))

    def workers(self, *, seen_since: datetime) -> Sequence[WorkerBeat]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT document FROM workers WHERE seen_at >= ? ORDER BY seen_at DESC",
                (seen_since.timestamp(),),
            ).fetchall()
        return [self._beats.validate_json(row["document"]) for row in rows]

    def note_key_use(self, key_id: str, at: datetime) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO key_uses (key_id, used_at) VALUES (?, ?) ON CONFLICT (key_id) DO UPDATE"
                " SET used_at = max(used_at, excluded.used_at)",
                (key_id, at.timestamp()),
            )

    def key_uses(self) -> Mapping[str, datetime]:
        with self._database.read() as connection:
            rows = connection.execute("SELECT key_id, used_at FROM key_uses").fetchall()
        return {row["key_id"]: datetime.fromtimestamp(row["used_at"], UTC) for row in rows}

    def endpoint(self, owner: str) -> WebhookEndpoint | None:
        with self._database.read() as connection:
            return sqlite_endpoints.read(connection, owner)

    def change_endpoint(
        self, owner: str, change: Callable[[WebhookEndpoint | None], WebhookEndpoint]
    ) -> WebhookEndpoint:
        with self._database.write() as connection:
            changed = change(sqlite_endpoints.read(connection, owner))
            sqlite_endpoints.store(connection, changed)
        return changed

    def remove_endpoint(self, owner: str) -> None:
        with self._database.write() as connection:
            sqlite_endpoints.remove(connection, owner)

    def ping(self) -> None:
        with self._database.read() as connection:
            connection.execute("SELECT 1 FROM jobs LIMIT 1").fetchone()

    def close(self) -> None:
        self._database.close()


def _insert(connection: sqlite3.Connection, job: Job) -> None:
    connection.execute(
        "INSERT INTO jobs (id, owner, idempotency_key, status, created_at, due_at, document)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            job.id,
            job.owner,
            job.idempotency_key,
            job.status,
            job.created_at.timestamp(),
            job.due_at.timestamp(),
            to_document(job),
        ),
    )


def _select(connection: sqlite3.Connection, job_id: str) -> Job:
    row = connection.execute("SELECT document FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobNotFound
    return from_document(row["document"])


def _is_said_again(stored: Job, changed: Job) -> bool:
    """Whether a power cut may take the change back: a worker reports again, a sweep sends again."""
    if changed.status.is_terminal:
        return changed == stored
    unsaid = replace(
        changed,
        status=stored.status,
        phase=stored.phase,
        progress=stored.progress,
        lease=stored.lease,
        published_at=stored.published_at,
    )
    return unsaid == stored


def _same_request(job: Job, row: sqlite3.Row) -> Job:
    earlier = from_document(row["document"])
    if earlier.request_hash != job.request_hash:
        raise IdempotencyConflict
    return earlier
