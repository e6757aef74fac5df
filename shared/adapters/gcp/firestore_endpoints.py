"""The endpoints of owners' webhooks in Firestore: ``webhook_endpoints/{hash of the owner}``.

A change is stored on condition that the document is still as it was read, and knows its own write again
by its revision. There is no TTL: an endpoint stays until its owner removes it.
"""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import asdict
from functools import cache

from google.cloud.firestore import Client, DocumentReference
from pydantic import TypeAdapter

from shared.adapters.gcp.firestore_calls import PATIENCE, Snapshot, until_not_overtaken
from shared.adapters.gcp.indexes import WEBHOOK_ENDPOINTS
from shared.adapters.gcp.job_documents import plain
from shared.webhook import WebhookEndpoint


class FirestoreEndpoints:
    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, owner: str) -> WebhookEndpoint | None:
        snapshot = self._document(owner).get(**PATIENCE)
        return _endpoint_in(snapshot)

    def change(
        self, owner: str, change: Callable[[WebhookEndpoint | None], WebhookEndpoint]
    ) -> WebhookEndpoint:
        revision = secrets.token_hex(8)
        document = self._document(owner)

        def attempt() -> WebhookEndpoint:
            snapshot = document.get(**PATIENCE)
            stored = _endpoint_in(snapshot)
            if stored is not None and snapshot.get("revision") == revision:
                return stored  # An earlier attempt was stored; only the reply to it was lost.
            changed = change(stored)
            fields = asdict(changed) | {"revision": revision}
            if stored is None:
                document.create(fields, **PATIENCE)
            else:
                unchanged = self._client.write_option(last_update_time=snapshot.update_time)
                document.update(fields, option=unchanged, **PATIENCE)
            return changed

        return until_not_overtaken(attempt)

    def remove(self, owner: str) -> None:
        self._document(owner).delete(**PATIENCE)

    def _document(self, owner: str) -> DocumentReference:
        # An owner may be called anything.
        name = hashlib.sha256(owner.encode()).hexdigest()
        return self._client.collection(WEBHOOK_ENDPOINTS).document(name)


def _endpoint_in(snapshot: Snapshot) -> WebhookEndpoint | None:
    fields = snapshot.to_dict()
    return None if fields is None else _endpoints().validate_python(plain(fields))


@cache
def _endpoints() -> TypeAdapter[WebhookEndpoint]:
    return TypeAdapter(WebhookEndpoint)
