"""How many jobs there are in Firestore.

A count sees every commit that was made before it was asked for, and costs a read a thousand jobs.
"""

from dataclasses import replace
from datetime import datetime

from google.cloud.firestore import Client, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.firestore_calls import PATIENCE
from shared.adapters.gcp.indexes import JOBS, MODEL, WORK_ENDED_AT
from shared.adapters.gcp.job_documents import moment_from
from shared.admission import RATE_WINDOW, AdmissionLimits, Standing
from shared.job import Job, JobStatus

_IN_FLIGHT = [status.value for status in JobStatus if not status.is_terminal]


class JobCounts:
    def __init__(self, client: Client) -> None:
        self._jobs = client.collection(JOBS)

    def with_status(self, status: JobStatus) -> int:
        return _count(self._where("status", "==", status.value))

    def standing(self, job: Job, limits: AdmissionLimits) -> Standing:
        """What is there before the job; only what a limit asks for is counted."""
        counted = Standing()
        of_model = self._where(MODEL, "==", job.request.model)
        of_owner = self._where("owner", "==", job.owner)
        queued = FieldFilter("status", "==", JobStatus.QUEUED.value)
        if limits.queued_per_model is not None:
            counted = replace(counted, queued_of_model=_count(of_model.where(filter=queued)))
        if limits.queued_per_owner is not None:
            counted = replace(counted, queued_of_owner=_count(of_owner.where(filter=queued)))
        if limits.in_flight_per_owner is not None:
            in_flight = FieldFilter("status", "in", _IN_FLIGHT)
            counted = replace(counted, in_flight_of_owner=_count(of_owner.where(filter=in_flight)))
        if (limit := limits.submissions_per_minute_per_owner) is not None:
            window_begins = job.created_at - RATE_WINDOW
            counted = replace(
                counted, submitted_at=_submitted(of_owner, since=window_begins, limit=limit)
            )
        return counted

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        of = self._where(MODEL, "==", model) if owner is None else self._where("owner", "==", owner)
        return _count(of.where(filter=FieldFilter(WORK_ENDED_AT, ">=", since)))

    def _where(self, field: str, operator: str, value: str | None) -> Query:
        return self._jobs.where(filter=FieldFilter(field, operator, value))


def _submitted(of_owner: Query, *, since: datetime, limit: int) -> tuple[datetime, ...]:
    """When an owner's newest jobs were made, newest first."""
    query = of_owner.where(filter=FieldFilter("created_at", ">", since))
    newest = query.order_by("created_at", direction=Query.DESCENDING).limit(limit)
    found = newest.select(["created_at"]).get(**PATIENCE)
    return tuple(moment_from(snapshot.get("created_at")) for snapshot in found)


def _count(query: Query) -> int:
    rows = query.count().get(**PATIENCE)
    return int(rows[0][0].value)  # type: ignore[index]  # it is a list of lists, typed as a list
