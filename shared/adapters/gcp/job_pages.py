"""Pages of an owner's jobs in Firestore."""

from collections.abc import Collection

from google.cloud.firestore import Client, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.indexes import JOB_KIND, JOBS
from shared.adapters.gcp.job_documents import status_among
from shared.job import Job, JobKind, JobStatus

_NAME = "__name__"


def page_query(
    client: Client,
    owner: str,
    kind: JobKind,
    *,
    limit: int,
    after: Job | None,
    newest_first: bool,
    statuses: Collection[JobStatus] | None,
) -> Query:
    """The jobs that come after one, in their order; ``statuses`` are at least one."""
    query = client.collection(JOBS).where(filter=FieldFilter("owner", "==", owner))
    query = query.where(filter=FieldFilter(JOB_KIND, "==", kind))
    if statuses is not None:
        query = query.where(filter=status_among(statuses))
    direction = Query.DESCENDING if newest_first else Query.ASCENDING
    for field in ("created_at", _NAME):
        query = query.order_by(field, direction=direction)
    if after is not None:
        query = query.start_after({"created_at": after.created_at, _NAME: after.id})
    return query.limit(limit)
