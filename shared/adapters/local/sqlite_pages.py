"""Pages of jobs in the SQLite job store.

What kind a job is of is read out of its document, as in ``sqlite_admission.py``: a file from before
there were pages gets the index when it is opened. The status is in the index so that jobs of another
one are passed over without being read.
"""

import sqlite3
from collections.abc import Collection, Sequence

from shared.job import Job, JobKind, JobStatus

_KIND = "coalesce(json_extract(document, '$.request.kind'), 'video')"

INDEX = f"""
CREATE INDEX IF NOT EXISTS jobs_pages ON jobs (owner, {_KIND}, created_at, id, status);
"""
_SELECT = "SELECT document FROM jobs"


def rows(
    connection: sqlite3.Connection,
    owner: str,
    kind: JobKind,
    *,
    limit: int,
    after: Job | None,
    newest_first: bool,
    statuses: Collection[JobStatus] | None,
) -> Sequence[sqlite3.Row]:
    """The documents of the jobs that come after one, in their order."""
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    query = f"{_SELECT} WHERE owner = ? AND {_KIND} = ?"
    values: list[str | float] = [owner, kind]
    if after is not None:
        query += f" AND (created_at, id) {beyond} (?, ?)"
        values += [after.created_at.timestamp(), after.id]
    if statuses is not None:
        query += f" AND status IN ({', '.join('?' * len(statuses))})"
        values += statuses
    query += f" ORDER BY created_at {order}, id {order} LIMIT ?"
    return connection.execute(query, (*values, limit)).fetchall()
