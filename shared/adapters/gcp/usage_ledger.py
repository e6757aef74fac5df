"""The ledger of usage in Firestore: ``usage/{entry id}``, created once and never touched again.

An entry is created in the commit that stores its job: one that is repeated because its reply was lost
is refused as a whole, and its writer knows the job again by its revision. There is no TTL, for entries
outlive their jobs.
"""

from collections.abc import Iterable
from dataclasses import asdict

from google.cloud.firestore import Client, WriteBatch
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.firestore_calls import PATIENCE
from shared.adapters.gcp.indexes import USAGE
from shared.ledger import LedgerEntry


class UsageLedger:
    def __init__(self, client: Client) -> None:
        self._entries = client.collection(USAGE)

    def enter(self, entries: Iterable[LedgerEntry], batch: WriteBatch) -> None:
        """What is there already stays as it is. A commit that another one precedes is refused."""
        for entry in entries:
            document = self._entries.document(entry.id)
            if not document.get(**PATIENCE).exists:
                batch.create(document, asdict(entry))

    def used(self, owner: str, month: str) -> int:
        of_owner = self._entries.where(filter=FieldFilter("owner", "==", owner))
        of_month = of_owner.where(filter=FieldFilter("month", "==", month))
        rows = of_month.sum("amount").get(**PATIENCE)
        return int(rows[0][0].value)  # type: ignore[index]  # it is a list of lists, typed as a list
