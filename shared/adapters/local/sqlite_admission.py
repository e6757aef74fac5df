"""What the limits ask of the SQLite job store: how many jobs wait, are in flight, have come or ended.

The model, the kind and the moments are read out of the document by indexes on expressions: a file
made before there were limits gets the indexes when it is opened, and no row is written anew. A query
uses such an index only if it says the expression, and the index's own condition, in the same words.
"""

import sqlite3
import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from shared.adapters.local.sqlite_usage import used
from shared.admission import RATE_WINDOW, AdmissionLimits, Standing
from shared.job import Job

INDEXES = """
CREATE INDEX IF NOT EXISTS jobs_queued_of_model_in_order
    ON jobs (json_extract(document, '$.request.model'), created_at)
    WHERE status = 'queued';
DROP INDEX IF EXISTS jobs_queued_of_model; -- what it did, the one above does
CREATE INDEX IF NOT EXISTS jobs_owner_status ON jobs (owner, status);
CREATE INDEX IF NOT EXISTS jobs_images_of_owner ON jobs (owner, status)
    WHERE json_extract(document, '$.request.kind') = 'image';
CREATE INDEX IF NOT EXISTS jobs_ended_of_model
    ON jobs (
        json_extract(document, '$.request.model'),
        julianday(json_extract(document, '$.finished_at'))
    )
    WHERE json_extract(document, '$.started_at') IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_ended_of_owner
    ON jobs (owner, julianday(json_extract(document, '$.finished_at')))
    WHERE json_extract(document, '$.started_at') IS NOT NULL;
"""

# As many that wait before a job are not counted each time.
MANY = 500
_GOOD_FOR_SECONDS = 1.0

_QUEUED_OF_MODEL = """\
SELECT count(*) FROM jobs
WHERE json_extract(document, '$.request.model') = ? AND status = 'queued'
"""
_QUEUED_BEFORE = """\
SELECT count(*) FROM jobs
WHERE json_extract(document, '$.request.model') = ? AND status = 'queued' AND created_at < ?
"""
_QUEUED_IN_ORDER = """\
SELECT created_at FROM jobs
WHERE json_extract(document, '$.request.model') = ? AND status = 'queued'
ORDER BY created_at
"""
_QUEUED_OF_OWNER = "SELECT count(*) FROM jobs WHERE owner = ? AND status = 'queued'"
_IN_FLIGHT_OF_OWNER = """\
SELECT count(*) FROM jobs WHERE owner = ? AND status IN ('queued', 'started', 'progress')
"""
_IMAGES_IN_FLIGHT_OF_OWNER = """\
SELECT count(*) FROM jobs
WHERE owner = ? AND status IN ('queued', 'started', 'progress')
    AND json_extract(document, '$.request.kind') = 'image'
"""
_SUBMITTED = """\
SELECT created_at FROM jobs WHERE owner = ? AND created_at > ?
ORDER BY created_at DESC LIMIT ?
"""
_ENDED_OF_MODEL = """\
SELECT count(*) FROM jobs
WHERE json_extract(document, '$.request.model') = ?
    AND julianday(json_extract(document, '$.finished_at')) >= julianday(?)
    AND json_extract(document, '$.started_at') IS NOT NULL
"""
_ENDED_OF_OWNER = """\
SELECT count(*) FROM jobs
WHERE owner = ?
    AND julianday(json_extract(document, '$.finished_at')) >= julianday(?)
    AND json_extract(document, '$.started_at') IS NOT NULL
"""


def standing(connection: sqlite3.Connection, job: Job, limits: AdmissionLimits) -> Standing:
    """What is there before the job; only what a limit asks for is counted."""
    model, owner = job.request.model, job.owner
    counted = Standing()
    if limits.queued_per_model is not None:
        counted = replace(counted, queued_of_model=_count(connection, _QUEUED_OF_MODEL, model))
    if limits.queued_per_owner is not None:
        counted = replace(counted, queued_of_owner=_count(connection, _QUEUED_OF_OWNER, owner))
    if limits.in_flight_per_owner is not None:
        in_flight = _count(connection, _IN_FLIGHT_OF_OWNER, owner)
        counted = replace(counted, in_flight_of_owner=in_flight)
    if (limit := limits.submissions_per_minute_per_owner) is not None:
        window_begins = (job.created_at - RATE_WINDOW).timestamp()
        rows = connection.execute(_SUBMITTED, (owner, window_begins, limit)).fetchall()
        moments = tuple(datetime.fromtimestamp(row["created_at"], UTC) for row in rows)
        counted = replace(counted, submitted_at=moments)
    if limits.images_in_flight_per_owner is not None:
        in_flight = _count(connection, _IMAGES_IN_FLIGHT_OF_OWNER, owner)
        counted = replace(counted, images_in_flight_of_owner=in_flight)
    if limits.images_per_month_per_owner is not None and job.charge is not None:
        of_month = used(connection, owner, job.charge.month)
        counted = replace(counted, images_of_month=of_month)
    return counted


def ended_since(
    connection: sqlite3.Connection, since: datetime, *, model: str | None, owner: str | None
) -> int:
    if model is not None:
        return _count(connection, _ENDED_OF_MODEL, model, since.isoformat())
    return _count(connection, _ENDED_OF_OWNER, owner, since.isoformat())


class Queues:
    """How many wait before a job: exactly, unless they are many; then as it was a second ago.

    A long queue is asked about by many, and counting it takes longer than all else of a reply. For
    many threads: one reads it anew, the others do meanwhile with what there is.
    """

    def __init__(self) -> None:
        self._long: dict[str, _Queue] = {}
        self._reading = threading.Lock()

    def before(
        self, connection: sqlite3.Connection, model: str, moments: Sequence[datetime]
    ) -> Sequence[int]:
        return [self._count(connection, model, moment.timestamp()) for moment in moments]

    def _count(self, connection: sqlite3.Connection, model: str, moment: float) -> int:
        queue = self._long.get(model)
        if queue is not None and time.monotonic() >= queue.good_until:
            queue = self._read(connection, model) or queue
        if queue is not None and (count := bisect_left(queue.moments, moment)) >= MANY:
            return count
        # Nothing is asked over a network here, and each count reads one stretch of the index.
        count = _count(connection, _QUEUED_BEFORE, model, moment)
        if count >= MANY:
            self._read(connection, model)
        return count

    def _read(self, connection: sqlite3.Connection, model: str) -> "_Queue | None":
        """The queue as it is now; None if somebody else is at it."""
        if not self._reading.acquire(blocking=False):
            return None
        try:
            rows = connection.execute(_QUEUED_IN_ORDER, (model,)).fetchall()
            good_until = time.monotonic() + _GOOD_FOR_SECONDS
            self._long[model] = queue = _Queue([moment for (moment,) in rows], good_until)
        finally:
            self._reading.release()
        return queue


@dataclass(frozen=True)
class _Queue:
    moments: Sequence[float]  # when its jobs were made, oldest first
    good_until: float  # monotonic


def _count(connection: sqlite3.Connection, query: str, *values: str | float | None) -> int:
    (count,) = connection.execute(query, values).fetchone()
    return int(count)
