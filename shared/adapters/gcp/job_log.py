"""A job's log in Firestore: several lines a document, numbered from the job's first line on.

A document is named by the number of its first line, so of two writers that both mean to write the
next line one is refused, and lines are never written over or out of order.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

from google.api_core.exceptions import AlreadyExists
from google.cloud.firestore import Client, CollectionReference, DocumentReference, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from shared.adapters.gcp.firestore_calls import PATIENCE, until_not_overtaken
from shared.adapters.gcp.indexes import LOG, TTL_FIELD
from shared.ports import LogLine

# A document holds 1 MiB at most, with its names and the rest.
_DOCUMENT_BYTES = 500_000
_LINE_BYTES = 8_192
_DELETIONS_A_BATCH = 200
_LARGEST_NUMBER = 2**63 - 1  # that Firestore can be asked for


class JobLog:
    """The log of one job; at least its newest ``lines_kept`` lines are stored."""

    def __init__(self, client: Client, job: DocumentReference, *, lines_kept: int) -> None:
        self._client = client
        self._log: CollectionReference = job.collection(LOG)
        self._lines_kept = lines_kept

    def append(self, lines: Sequence[str], *, expire_at: datetime) -> None:
        """A burst too big for one document takes several, and may be stored in part."""
        after = 0
        for part in _parts(lines[-self._lines_kept :]):
            after = self._append_part(part, expire_at)
        if after > self._lines_kept:
            self._delete(self._log.where(filter=_last("<", after - self._lines_kept)))

    def tail(self, lines: int) -> Sequence[str]:
        """The newest lines, oldest of them first."""
        after = self._next_number()
        first = after - min(lines, self._lines_kept)
        numbered = _lines_of(self._from(first))
        # A document may begin before the first line asked for, or come after the newest counted.
        return [line for number, line in numbered if first <= number < after]

    def read(self, *, after: int, limit: int) -> Sequence[LogLine]:
        """Told by numbers from 1 on; here the first line is number 0."""
        first = min(after, _LARGEST_NUMBER)
        numbered = _lines_of(self._from(first).limit(limit))
        found = (LogLine(number + 1, line) for number, line in numbered if number >= first)
        return list(islice(found, limit))

    def delete(self) -> None:
        self._delete(self._log)

    def _append_part(self, lines: list[str], expire_at: datetime) -> int:
        """Returns the number of the line after these."""
        writer = secrets.token_hex(8)

        def attempt() -> int:
            first = self._next_number()
            after = first + len(lines)
            fields: dict[str, Any] = {
                "first": first,
                "last": after - 1,
                "lines": lines,
                "writer": writer,
                TTL_FIELD: expire_at,
            }
            document = self._log.document(f"{first:012}")
            try:
                document.create(fields, **PATIENCE)
            except AlreadyExists:
                # Unless it is our own: the commit landed, only the reply to it was lost.
                if document.get(**PATIENCE).get("writer") != writer:
                    raise
            return after

        return until_not_overtaken(attempt)

    def _from(self, number: int) -> Query:
        """The documents with a line and all later ones, in their order."""
        return self._log.where(filter=_last(">=", number)).order_by("last")

    def _next_number(self) -> int:
        newest = self._log.order_by("last", direction=Query.DESCENDING).limit(1).get(**PATIENCE)
        return int(newest[0].get("last")) + 1 if newest else 0

    def _delete(self, query: CollectionReference | Query) -> None:
        keys_only = query.select([]).limit(_DELETIONS_A_BATCH)
        while documents := keys_only.get(**PATIENCE):
            batch = self._client.batch()
            for document in documents:
                batch.delete(document.reference)
            batch.commit(**PATIENCE)


def _last(operator: str, number: int) -> FieldFilter:
    return FieldFilter("last", operator, number)


def _lines_of(documents: Query) -> Iterator[tuple[int, str]]:
    """Each line with its number."""
    for document in documents.get(**PATIENCE):
        fields = document.to_dict() or {}
        yield from enumerate(fields["lines"], start=fields["first"])


def _parts(lines: Sequence[str]) -> Iterator[list[str]]:
    """The lines in order, as many together as one document can hold."""
    shortened = [_shortened(line) for line in lines]
    starts, size = [0], 0
    for number, line in enumerate(shortened):
        size += len(line.encode())
        if size > _DOCUMENT_BYTES:
            starts.append(number)
            size = len(line.encode())
    for start, end in pairwise([*starts, len(shortened)]):
        if start < end:
            yield shortened[start:end]


def _shortened(line: str) -> str:
    # A line no document can hold would be refused for ever, and keep all later ones from the log.
    encoded = line.encode(errors="replace")
    return encoded[:_LINE_BYTES].decode(errors="ignore")
