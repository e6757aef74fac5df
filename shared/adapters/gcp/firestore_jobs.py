"""The job store in Firestore; what is kept where is in ``job_documents.py``.

A change is stored on condition that the document is still the one that was read, in one atomic
commit; if it is not, the whole is done anew. Nothing is ever locked: Firestore's own transactions
lock what they read, and a worker killed inside one would keep a job from everybody for a while.
"""

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

from google.auth.credentials import Credentials
from google.cloud.firestore import Client, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.firestore_calls import (
    PATIENCE,
    Snapshot,
    unavailable_instead,
    until_not_overtaken,
)
from shared.adapters.gcp.firestore_endpoints import FirestoreEndpoints
from shared.adapters.gcp.indexes import JOBS, KEY_USES, WORKERS
from shared.adapters.gcp.job_admission import Admission
from shared.adapters.gcp.job_counts import JobCounts
from shared.adapters.gcp.job_documents import (
    beat_fields,
    beat_from,
    expire_at,
    job_document,
    job_fields,
    job_from,
    key_document,
    key_fields,
    log_expire_at,
    moment_from,
    status_among,
    worker_document,
)
from shared.adapters.gcp.job_listener import Listeners
from shared.adapters.gcp.job_log import JobLog
from shared.adapters.gcp.job_pages import page_query
from shared.adapters.gcp.usage_ledger import UsageLedger
from shared.admission import NO_LIMITS, AdmissionLimits
from shared.errors import JobNotFound
from shared.job import Job, JobKind, JobStatus
from shared.ledger import entries_made
from shared.ports import Admitted, JobPage, LogLine, WorkerBeat
from shared.webhook import WebhookEndpoint

_PING_SECONDS = 5.0


class FirestoreJobs:
    """A ``JobStore``. Where FIRESTORE_EMULATOR_HOST is set it talks to that emulator instead."""

    def __init__(
        self,
        *,
        project: str,
        database: str = "(default)",
        log_lines_per_job: int = 2000,
        credentials: Credentials | None = None,
    ) -> None:
        self._client = Client(project=project, database=database, credentials=credentials)
        self._documents = f"projects/{project}/databases/{database}/documents"
        self._log_lines_per_job = log_lines_per_job
        self._ledger = UsageLedger(self._client)
        self._counts = JobCounts(self._client, self._ledger)
        self._listeners = Listeners(self._client)
        self._endpoints = FirestoreEndpoints(self._client)

    def admit(self, job: Job, limits: AdmissionLimits = NO_LIMITS) -> Admitted:
        admission = Admission(self._client, job, limits, self._counts, self._ledger)
        with unavailable_instead():
            return until_not_overtaken(admission.attempt)

    def get(self, job_id: str) -> Job:
        return _job_in(self._read(job_id))

    def update(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        revision = secrets.token_hex(8)

        def attempt() -> Job:
            snapshot = self._read(job_id)
            stored = _job_in(snapshot)
            if snapshot.get("revision") == revision:
                return stored  # An earlier attempt was stored; only the reply to it was lost.
            changed = transition(stored)
            if changed != stored:
                self._store(changed, snapshot, revision)
            return changed

        with unavailable_instead():
            return until_not_overtaken(attempt)

    def delete(self, job_id: str) -> None:
        with unavailable_instead():
            try:
                # The log first: cut off here, the job is still there to be deleted again.
                self._log(job_id).delete()
                until_not_overtaken(lambda: self._forget(self.get(job_id)))
            except JobNotFound:
                return

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
        last = None if after is None else self.get(after)
        if last is not None and (last.owner, last.kind) != (owner, kind):
            raise JobNotFound
        if statuses is not None and not statuses:
            return JobPage(jobs=(), has_more=False)  # Firestore refuses to look for none.
        query = page_query(
            self._client,
            owner,
            kind,
            limit=limit + 1,  # One more than the page holds tells whether there is another page.
            after=last,
            newest_first=newest_first,
            statuses=statuses,
        )
        jobs = _jobs_of(query)
        return JobPage(jobs=jobs[:limit], has_more=len(jobs) > limit)

    def due(self, now: datetime, *, limit: int, statuses: Collection[JobStatus]) -> Sequence[Job]:
        query = self._client.collection(JOBS).where(filter=status_among(statuses))
        query = query.where(filter=FieldFilter("due_at", "<=", now))
        return _jobs_of(query.order_by("due_at").limit(limit))

    def counts(self) -> Mapping[JobStatus, int]:
        with unavailable_instead():
            return {status: self._counts.with_status(status) for status in JobStatus}

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        with unavailable_instead():
            return self._counts.ended_since(since, model=model, owner=owner)

    def queued_before(self, model: str, moments: Sequence[datetime]) -> Sequence[int]:
        with unavailable_instead():
            return self._counts.queued_before(model, moments)

    def used(self, owner: str, month: str) -> int:
        with unavailable_instead():
            return self._ledger.used(owner, month)

    def watch(self, job_id: str, *, timeout_seconds: float) -> Iterator[Job]:
        deadline = time.monotonic() + timeout_seconds
        job = self.get(job_id)
        yield job
        if job.status.is_terminal:
            return
        document = f"{self._documents}/{JOBS}/{job_id}"
        with closing(self._listeners.worth_a_look(document, deadline=deadline)) as moments:
            for _ in moments:
                seen, job = job, self.get(job_id)
                if job != seen:
                    yield job
                if job.status.is_terminal:
                    return

    def append_log(self, job_id: str, lines: Sequence[str], *, now: datetime) -> None:
        moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        expires = log_expire_at(self.get(job_id), now=now)
        with unavailable_instead():
            self._log(job_id).append([f"{moment} {line}" for line in lines], expire_at=expires)

    def tail_log(self, job_id: str, *, tail: int) -> Sequence[str]:
        with unavailable_instead():
            return self._log(job_id).tail(tail)

    def read_log(self, job_id: str, *, after: int, limit: int) -> Sequence[LogLine]:
        with unavailable_instead():
            return self._log(job_id).read(after=after, limit=limit)

    def beat(self, beat: WorkerBeat) -> None:
        with unavailable_instead():
            worker_document(self._client, beat.instance).set(beat_fields(beat), **PATIENCE)

    def workers(self, *, seen_since: datetime) -> Sequence[WorkerBeat]:
        fresh = FieldFilter("seen_at", ">=", seen_since)
        query = self._client.collection(WORKERS).where(filter=fresh)
        with unavailable_instead():
            found = query.order_by("seen_at", direction=Query.DESCENDING).get(**PATIENCE)
        return [beat_from(snapshot.to_dict() or {}) for snapshot in found]

    def note_key_use(self, key_id: str, at: datetime) -> None:
        with unavailable_instead():
            self._client.collection(KEY_USES).document(key_id).set({"used_at": at}, **PATIENCE)

    def key_uses(self) -> Mapping[str, datetime]:
        with unavailable_instead():
            found = self._client.collection(KEY_USES).get(**PATIENCE)
        return {snapshot.id: moment_from(snapshot.get("used_at")) for snapshot in found}

    def endpoint(self, owner: str) -> WebhookEndpoint | None:
        with unavailable_instead():
            return self._endpoints.read(owner)

    def change_endpoint(
        self, owner: str, change: Callable[[WebhookEndpoint | None], WebhookEndpoint]
    ) -> WebhookEndpoint:
        with unavailable_instead():
            return self._endpoints.change(owner, change)

    def remove_endpoint(self, owner: str) -> None:
        with unavailable_instead():
            self._endpoints.remove(owner)

    def ping(self) -> None:
        with unavailable_instead():
            worker_document(self._client, "ping").get(retry=None, timeout=_PING_SECONDS)

    def close(self) -> None:
        self._listeners.close()
        # Google's own close() leaves the channel open, and the threads that serve it.
        self._client._firestore_api.transport.close()  # noqa: SLF001 - there is no public way
        self._client.close()  # type: ignore[no-untyped-call]  # Google's

    # --- pieces

    def _read(self, job_id: str) -> Snapshot:
        with unavailable_instead():
            snapshot = job_document(self._client, job_id).get(**PATIENCE)
        if not snapshot.exists:
            raise JobNotFound
        return snapshot

    def _store(self, changed: Job, read: Snapshot, revision: str) -> None:
        """Store the job unless it has changed since it was read."""
        batch = self._client.batch()
        batch.update(
            job_document(self._client, changed.id),
            job_fields(changed, revision=revision),
            option=self._client.write_option(last_update_time=read.update_time),
        )
        stored = _job_in(read)
        self._ledger.enter(entries_made(stored, changed), batch)
        key = key_document(self._client, changed)
        if key is not None and expire_at(changed) != expire_at(stored):
            batch.set(key, key_fields(changed))  # It must not outlive the job, nor the job it.
        batch.commit(**PATIENCE)

    def _forget(self, job: Job) -> None:
        batch = self._client.batch()
        batch.delete(job_document(self._client, job.id))
        if (key := key_document(self._client, job)) is not None:
            kept = key.get(**PATIENCE)
            if kept.exists and kept.get("job_id") == job.id:
                unchanged = self._client.write_option(last_update_time=kept.update_time)
                batch.delete(key, option=unchanged)
        batch.commit(**PATIENCE)

    def _log(self, job_id: str) -> JobLog:
        document = job_document(self._client, job_id)
        return JobLog(self._client, document, lines_kept=self._log_lines_per_job)


def _job_in(snapshot: Snapshot) -> Job:
    return job_from(snapshot.to_dict() or {})


def _jobs_of(query: Query) -> Sequence[Job]:
    with unavailable_instead():
        return [_job_in(snapshot) for snapshot in query.get(**PATIENCE)]
