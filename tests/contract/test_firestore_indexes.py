"""Every query the store sends is on the list Terraform makes the indexes from.

The emulator answers without an index; production refuses.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.cloud.firestore_v1.types import StructuredQuery

from shared.adapters.gcp.firestore_jobs import FirestoreJobs
from shared.adapters.gcp.indexes import QUERIES, IndexField
from shared.admission import AdmissionLimits
from shared.ports import JobStore, WorkerBeat

Shape = tuple[str, tuple[str, ...], tuple[IndexField, ...]]

# One of several values is looked for as each of them would be, in the same index.
EQUAL = {StructuredQuery.FieldFilter.Operator.EQUAL, StructuredQuery.FieldFilter.Operator.IN}
EVERY_LIMIT = AdmissionLimits(
    queued_per_model=9,
    queued_per_owner=9,
    in_flight_per_owner=9,
    submissions_per_minute_per_owner=9,
)


@pytest.fixture
def shapes(firestore_jobs, monkeypatch) -> set[Shape]:
    """Fills with the shape of each query the store sends from now on."""
    seen: set[Shape] = set()
    api = firestore_jobs._client._firestore_api

    def record(method: str) -> None:
        send = getattr(api, method)

        def recorded(*, request: dict, **arguments):
            query = request.get("structured_query")
            if query is None:
                query = request["structured_aggregation_query"].structured_query
            seen.add(shape_of(query))
            return send(request=request, **arguments)

        monkeypatch.setattr(api, method, recorded)

    record("run_query")
    record("run_aggregation_query")
    return seen


def test_every_query_the_store_sends_is_listed_and_every_listed_one_is_sent(
    firestore_jobs, shapes, new_job, noon, log_lines_per_job
):
    assert use_every_method(firestore_jobs, new_job, noon, log_lines_per_job) == {
        name for name in vars(JobStore) if not name.startswith("_")
    } - {"close"}
    assert shapes == {(query.collection, query.equal, query.ordered) for query in QUERIES}


def use_every_method(store: FirestoreJobs, new_job, noon, log_lines_per_job) -> set[str]:
    job = new_job(idempotency_key="once")
    beat = WorkerBeat(
        instance="w", model="m", device=None, model_loaded=False, job_id=None, seen_at=noon
    )
    too_many = ["x"] * (log_lines_per_job + 1)
    calls = {
        "admit": lambda: (store.admit(job), store.admit(job, EVERY_LIMIT)),
        "get": lambda: store.get(job.id),
        "update": lambda: store.update(job.id, lambda stored: stored),
        "list": lambda: (
            store.list("ada", limit=9),
            store.list("ada", limit=9, before=noon + timedelta(days=1)),
        ),
        "due": lambda: store.due(noon, limit=9),
        "counts": store.counts,
        "ended_since": lambda: (
            store.ended_since(noon, owner="ada"),
            store.ended_since(noon, model="wan2.1-demo"),
        ),
        "watch": lambda: list(store.watch(job.id, timeout_seconds=0.1)),
        "append_log": lambda: [store.append_log(job.id, too_many, now=noon) for _ in range(2)],
        "tail_log": lambda: store.tail_log(job.id, tail=9),
        "beat": lambda: store.beat(beat),
        "workers": lambda: store.workers(seen_since=noon),
        "ping": store.ping,
        "delete": lambda: store.delete(job.id),
    }
    for call in calls.values():
        call()
    return set(calls)


def shape_of(query: StructuredQuery) -> Shape:
    (source,) = query.from_
    assert not source.all_descendants  # a collection group's index would be another
    filters = list(field_filters(query.where))
    equal = tuple(one.field.field_path for one in filters if one.op in EQUAL)
    ranges = dict.fromkeys(one.field.field_path for one in filters if one.op not in EQUAL)
    ordered = [
        IndexField(path=order.field.field_path, order=order.direction.name)
        for order in query.order_by
    ]
    # Where no order is asked for, Firestore's own is that of the range.
    ordered = ordered or [IndexField(path=path) for path in ranges]
    assert set(ranges) <= {field.path for field in ordered[:1]}
    return source.collection_id, equal, tuple(ordered)


def field_filters(where: StructuredQuery.Filter) -> Iterator[StructuredQuery.FieldFilter]:
    if "field_filter" in where:
        yield where.field_filter
    assert "unary_filter" not in where
    for inner in where.composite_filter.filters:
        yield from field_filters(inner)
