"""Storing a new job together with the Idempotency-Key it came with."""

import secrets

from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.cloud.firestore import Client

from shared.adapters.gcp.firestore_calls import PATIENCE, Snapshot
from shared.adapters.gcp.job_documents import (
    job_document,
    job_fields,
    job_from,
    key_document,
    key_fields,
)
from shared.errors import IdempotencyConflict
from shared.job import Job
from shared.ports import Admitted


class Admission:
    """One new job on its way in: ``attempt`` until it is not overtaken by another writer."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        self._job = job
        self._document = job_document(client, job.id)
        self._key = key_document(client, job)
        self._revision = secrets.token_hex(8)
        # What an earlier job has left behind: Firestore deletes the two at moments of its own.
        self._stale_key: Snapshot | None = None

    def attempt(self) -> Admitted:
        """Raises ``IdempotencyConflict``, and Google's own errors when overtaken."""
        try:
            self._create()
        except (AlreadyExists, FailedPrecondition, NotFound):
            # The new job nearly always comes first: who is in its way is looked at only now.
            if self._is_ours():
                return Admitted(job=self._job, created=True)
            if (earlier := self._earlier()) is None:
                raise
            if earlier.request_hash != self._job.request_hash:
                raise IdempotencyConflict from None
            return Admitted(job=earlier, created=False)
        return Admitted(job=self._job, created=True)

    def _create(self) -> None:
        batch = self._client.batch()
        batch.create(self._document, job_fields(self._job, revision=self._revision))
        if self._key is not None and self._stale_key is None:
            batch.create(self._key, key_fields(self._job))
        elif self._key is not None and self._stale_key is not None:
            unchanged = self._client.write_option(last_update_time=self._stale_key.update_time)
            batch.update(self._key, key_fields(self._job), option=unchanged)
        batch.commit(**PATIENCE)

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
