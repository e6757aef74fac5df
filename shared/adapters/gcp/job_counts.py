"""How many jobs there are in Firestore, and what stands in the way of one more.

A count sees every commit that was made before it was asked for, and costs a read a thousand jobs.
A sum does likewise.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from google.cloud.firestore import Client, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.firestore_calls import PATIENCE
from shared.adapters.gcp.indexes import JOBS, KIND, MODEL, WORK_ENDED_AT
from shared.adapters.gcp.job_documents import moment_from, status_among
from shared.adapters.gcp.usage_ledger import UsageLedger
from shared.admission import RATE_WINDOW, AdmissionLimits, Standing
from shared.job import IN_FLIGHT, Job, JobStatus

_QUEUED = FieldFilter("status", "==", JobStatus.QUEUED.value)
_IN_FLIGHT = status_among(IN_FLIGHT)


class JobCounts:
    def __init__(self, client: Client, ledger: UsageLedger) -> None:
        self._jobs = client.collection(JOBS)
        self._ledger = ledger

    def with_status(self, status: JobStatus) -> int:
        return _count(self._where("status", "==", status.value))

    def standing(self, job: Job, limits: AdmissionLimits) -> Standing:
        """What is there before the job; only what a limit asks for is counted."""
        counted = Standing()
        of_model = self._where(MODEL, "==", job.request.model)
        of_owner = self._where("owner", "==", job.owner)
        if limits.queued_per_model is not None:
            counted = replace(counted, queued_of_model=_count(of_model.where(filter=_QUEUED)))
        if limits.queued_per_owner is not None:
            counted = replace(counted, queued_of_owner=_count(of_owner.where(filter=_QUEUED)))
        if limits.in_flight_per_owner is not None:
            counted = replace(counted, in_flight_of_owner=_count(of_owner.where(filter=_IN_FLIGHT)))
        if (limit := limits.submissions_per_minute_per_owner) is not None:
            window_begins = job.created_at - RATE_WINDOW
            counted = replace(
                counted, submitted_at=_submitted(of_owner, since=window_begins, limit=limit)
            )
        if limits.images_in_flight_per_owner is not None:
            images = of_owner.where(filter=FieldFilter(KIND, "==", "image"))
            counted = replace(
                counted, images_in_flight_of_owner=_count(images.where(filter=_IN_FLIGHT))
            )
        if limits.images_per_month_per_owner is not None and job.charge is not None:
            used = self._ledger.used(job.owner, job.charge.month)
            counted = replace(counted, images_of_month=used)
        return counted

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        of = self._where(MODEL, "==", model) if owner is None else self._where("owner", "==", owner)
        return _count(of.where(filter=FieldFilter(WORK_ENDED_AT, ">=", since)))

    def queued_before(self, model: str, moments: Sequence[datetime]) -> Sequence[int]:
        """Those before the first moment are counted, those between the first and the last are read."""
        if not moments:
            return []
        first, last = min(moments), max(moments)
        queued = self._where(MODEL, "==", model).where(filter=_QUEUED)
        before = _count(queued.where(filter=FieldFilter("created_at", "<", first)))
        between = [] if first == last else _created(queued, since=first, before=last)
        return [before + bisect_left(between, moment) for moment in moments]

    def _where(self, field: str, operator: str, value: str | None) -> Query:
        return self._jobs.where(filter=FieldFilter(field, operator, value))


def _submitted(of_owner: Query, *, since: datetime, limit: int) -> tuple[datetime, ...]:
    """When an owner's newest jobs were made, newest first."""
    query = of_owner.where(filter=FieldFilter("created_at", ">", since))
    newest = query.order_by("created_at", direction=Query.DESCENDING).limit(limit)
    found = newest.select(["created_at"]).get(**PATIENCE)
    return tuple(moment_from(snapshot.get("created_at")) for snapshot in found)


def _created(queued: Query, *, since: datetime, before: datetime) -> list[datetime]:
    """When jobs were made, oldest first."""
    query = queued.where(filter=FieldFilter("created_at", ">=", since))
    query = query.where(filter=FieldFilter("created_at", "<", before)).order_by("created_at")
    found = query.select(["created_at"]).get(**PATIENCE)
    return [moment_from(snapshot.get("created_at")) for snapshot in found]


def _count(query: Query) -> int:
    rows = query.count().get(**PATIENCE)
    return int(rows[0][0].value)  # type: ignore[index]  # it is a list of lists, typed as a list
