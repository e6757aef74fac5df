"""Storing a new job with its Idempotency-Key and its entry in the ledger, within its owner's limits.

Two admissions that count the same jobs would both come in. Where a limit must hold exactly, an owner's
admissions therefore take turns: each writes ``owners/{hash}`` in the commit that creates its job, on
condition that nobody has written it since before the jobs were counted. The document counts nothing
itself, the jobs and the ledger do: none can be forgotten in it, and nothing is lost when Firestore
deletes it.
"""

import secrets

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.cloud.firestore import Client, WriteBatch

from shared.adapters.gcp.firestore_calls import PATIENCE, Snapshot
from shared.adapters.gcp.job_counts import JobCounts
from shared.adapters.gcp.job_documents import (
    job_document,
    job_fields,
    job_from,
    key_document,
    key_fields,
    owner_document,
    owner_fields,
)
from shared.adapters.gcp.usage_ledger import UsageLedger
from shared.admission import AdmissionLimits, check_limits
from shared.errors import IdempotencyConflict, TooManyJobs
from shared.job import Job
from shared.ledger import entries_of
from shared.ports import Admitted


class Admission:
    """One new job on its way in: ``attempt`` until it is not overtaken by another writer."""

    def __init__(
        self,
        client: Client,
        job: Job,
        limits: AdmissionLimits,
        counts: JobCounts,
        ledger: UsageLedger,
    ) -> None:
        self._client = client
        self._job = job
        self._limits = limits
        self._counts = counts
        self._ledger = ledger
        self._document = job_document(client, job.id)
        self._key = key_document(client, job)
        self._owner = owner_document(client, job.owner)
        self._revision = secrets.token_hex(8)
        # What an earlier job has left behind: Firestore deletes the two at moments of its own.
        self._stale_key: Snapshot | None = None

    def attempt(self) -> Admitted:
        """Raises ``IdempotencyConflict``, ``TooManyJobs``, and Google's own errors when overtaken."""
        try:
            turn = self._owner.get(**PATIENCE) if self._takes_turns() else None
            self._check_limits()
            self._create(turn)
        except (AlreadyExists, FailedPrecondition, NotFound, TooManyJobs):
            # The new job nearly always comes first: who is in its way is looked at only now. One
            # that is ours or has this key already is there: no limit can be in its way any more.
            if self._is_ours():
                return Admitted(job=self._job, created=True)
            if (earlier := self._earlier()) is None:
                raise
            if earlier.request_hash != self._job.request_hash:
                raise IdempotencyConflict from None
            return Admitted(job=earlier, created=False)
        return Admitted(job=self._job, created=True)

    def _takes_turns(self) -> bool:
        limits = self._limits
        return (
            limits.in_flight_per_owner is not None
            or limits.submissions_per_minute_per_owner is not None
            or limits.images_in_flight_per_owner is not None
            or limits.images_per_month_per_owner is not None
        )

    def _check_limits(self) -> None:
        standing = self._counts.standing(self._job, self._limits)
        check_limits(self._job, self._limits, standing, ended_since=self._counts.ended_since)

    def _create(self, turn: Snapshot | None) -> None:
        batch = self._client.batch()
        batch.create(self._document, job_fields(self._job, revision=self._revision))
        self._ledger.enter(entries_of(self._job), batch)
        if self._key is not None and self._stale_key is None:
            batch.create(self._key, key_fields(self._job))
        elif self._key is not None and self._stale_key is not None:
            unchanged = self._client.write_option(last_update_time=self._stale_key.update_time)
            batch.update(self._key, key_fields(self._job), option=unchanged)
        if turn is not None:
            self._take(turn, batch)
        batch.commit(**PATIENCE)

    def _take(self, turn: Snapshot, batch: WriteBatch) -> None:
        fields = owner_fields(self._job)
        if turn.exists:
            unchanged = self._client.write_option(last_update_time=turn.update_time)
            batch.update(self._owner, fields, option=unchanged)
        else:
            batch.create(self._owner, fields)

    def _is_ours(self) -> bool:
        """The commit was stored, and repeated because the reply to it was lost."""
        stored = self._document.get(**PATIENCE)
        return stored.exists and stored.get("revision") == self._revision

    def _earlier(self) -> Job | None:
        """The job this key has made before, if that is still there."""
        if self._key is None:
            return None
        kept = self._key.get(**PATIENCE)
        if not kept.exists:
            self._stale_key = None
            return None
        earlier = job_document(self._client, kept.get("job_id")).get(**PATIENCE)
        self._stale_key = None if earlier.exists else kept
        return job_from(earlier.to_dict() or {}) if earlier.exists else None
