"""A job, its Idempotency-Key, its owner's turn and a worker's heartbeat as Firestore documents.

    jobs/{job id}             the job; below it, in ``log``, its lines (``job_log.py``)
    idempotency/{hash}        which job an owner's Idempotency-Key made
    owners/{hash}             which job an owner with limits was admitted last (``job_admission.py``)
    workers/{instance}        a worker's newest heartbeat
    usage/{entry id}          what counts against an owner's month (``usage_ledger.py``)
    key_uses/{key id}         when an API key was used last
    webhook_endpoints/{hash}  where an owner is told of the ends of its jobs (``firestore_endpoints.py``)

People read them in the console and other programs may poll them, so they are native maps with real
timestamps. Beside the job's own fields a document has what queries need, derived from the same job
in the same write, and ``revision``, by which a writer knows its own write again.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import Any
from urllib.parse import quote

from google.cloud.firestore import Client, DocumentReference
from google.cloud.firestore_v1.base_query import FieldFilter
from pydantic import TypeAdapter

from shared.adapters.gcp.indexes import (
    IDEMPOTENCY,
    JOB_KIND,
    JOBS,
    OWNERS,
    TTL_FIELD,
    WORK_ENDED_AT,
    WORKERS,
)
from shared.errors import JobNotFound
from shared.job import Job, JobStatus
from shared.ports import WorkerBeat

# The sweep removes jobs when their retention is over, their files first. Firestore's own deletion
# is the net below it, for an installation whose sweep has stopped, and must never be faster.
SWEEP_GRACE = timedelta(days=7)
_WORKER_REMEMBERED = timedelta(days=1)
# Much longer than an admission takes: one that read it must not find it gone and new again.
_TURN_REMEMBERED = timedelta(days=1)

# Stricter than Firestore's own rule, which forbids slashes, dots alone and two underscores around.
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")

Fields = dict[str, Any]


def status_among(statuses: Collection[JobStatus]) -> FieldFilter:
    """For queries; at least one."""
    return FieldFilter("status", "in", [status.value for status in statuses])


def job_document(client: Client, job_id: str) -> DocumentReference:
    """Raises ``JobNotFound`` for what no job can be called; ids come from callers too."""
    if _JOB_ID.fullmatch(job_id) is None:
        raise JobNotFound
    return client.collection(JOBS).document(job_id)


def key_document(client: Client, job: Job) -> DocumentReference | None:
    """Where the job's Idempotency-Key is kept; None without one. Both may hold any characters."""
    if job.idempotency_key is None:
        return None
    name = hashlib.sha256(json.dumps([job.owner, job.idempotency_key]).encode()).hexdigest()
    return client.collection(IDEMPOTENCY).document(name)


def owner_document(client: Client, owner: str) -> DocumentReference:
    """Where an owner's admissions take turns. An owner may be called anything."""
    return client.collection(OWNERS).document(hashlib.sha256(owner.encode()).hexdigest())


def worker_document(client: Client, instance: str) -> DocumentReference:
    return client.collection(WORKERS).document(quote(instance, safe=""))


def job_fields(job: Job, *, revision: str) -> Fields:
    fields: Fields = _native(_jobs().dump_python(job))
    return fields | {
        "due_at": job.due_at,
        JOB_KIND: job.kind,
        WORK_ENDED_AT: work_ended_at(job),
        TTL_FIELD: expire_at(job),
        "revision": revision,
    }


def job_from(fields: Mapping[str, Any]) -> Job:
    # What no field of a job is called is not looked at: newer versions may add some.
    return _jobs().validate_python(plain(fields))


def expire_at(job: Job) -> datetime | None:
    """When Firestore may delete the job; None while it has not ended."""
    if job.finished_at is None:
        return None
    return job.finished_at + _kept(job)


def work_ended_at(job: Job) -> datetime | None:
    """When the job made room for another; None too for one that ended before anybody started it."""
    return job.finished_at if job.started_at is not None else None


def log_expire_at(job: Job, *, now: datetime) -> datetime:
    """When Firestore may delete log lines written now: not before the job, unless it takes days."""
    return now + _kept(job)


def key_fields(job: Job) -> Fields:
    return {
        "job_id": job.id,
        "owner": job.owner,
        "request_hash": job.request_hash,
        "created_at": job.created_at,
        TTL_FIELD: expire_at(job),
    }


def owner_fields(job: Job) -> Fields:
    # The job's id is new each time: Firestore takes a write that changes nothing for none at all,
    # and would let a second one through.
    return {
        "owner": job.owner,
        "job_id": job.id,
        TTL_FIELD: job.created_at + _TURN_REMEMBERED,
    }


def beat_fields(beat: WorkerBeat) -> Fields:
    fields: Fields = _native(_beats().dump_python(beat))
    return fields | {TTL_FIELD: beat.seen_at + _WORKER_REMEMBERED}


def beat_from(fields: Mapping[str, Any]) -> WorkerBeat:
    return _beats().validate_python(plain(fields))


def _kept(job: Job) -> timedelta:
    seconds = max(job.retention.artifact_seconds, job.retention.job_seconds)
    return timedelta(seconds=seconds) + SWEEP_GRACE


def _native(value: Any) -> Any:  # noqa: ANN401 - any value a field can hold
    """The value in Firestore's own types."""
    if isinstance(value, Mapping):
        return {key: _native(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_native(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def moment_from(value: datetime) -> datetime:
    moment: datetime = plain(value)
    return moment


def plain(value: Any) -> Any:  # noqa: ANN401 - any value a field can hold
    """The value without Google's subclass of datetime, which counts nanoseconds."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        moment = value.astimezone(UTC)
        return datetime.combine(moment.date(), moment.time(), tzinfo=UTC)
    return value


@cache
def _jobs() -> TypeAdapter[Job]:
    return TypeAdapter(Job)


@cache
def _beats() -> TypeAdapter[WorkerBeat]:
    return TypeAdapter(WorkerBeat)
