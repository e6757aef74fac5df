"""Every query the store sends is on the list Terraform makes the indexes from.

The emulator answers without an index; production refuses.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.cloud.firestore_v1.types import StructuredAggregationQuery, StructuredQuery

from shared.adapters.gcp.firestore_jobs import FirestoreJobs
from shared.adapters.gcp.indexes import QUERIES, IndexField
from shared.admission import AdmissionLimits
from shared.job import JobStatus
from shared.ports import JobStore, WorkerBeat
from shared.webhook import WebhookEndpoint
from tests.jobs import picture_job

Shape = tuple[str, tuple[str, ...], tuple[IndexField, ...], str | None]

# One of several values is looked for as each of them would be, in the same index.
EQUAL = {StructuredQuery.FieldFilter.Operator.EQUAL, StructuredQuery.FieldFilter.Operator.IN}
EVERY_LIMIT = AdmissionLimits(
    queued_per_model=9,
    queued_per_owner=9,
    in_flight_per_owner=9,
    submissions_per_minute_per_owner=9,
    images_in_flight_per_owner=9,
    images_per_month_per_owner=9,
)


@pytest.fixture
def shapes(firestore_jobs, monkeypatch) -> set[Shape]:
    """Fills with the shape of each query the store sends from now on."""
    seen: set[Shape] = set()
    api = firestore_jobs._client._firestore_api

    def record(method: str) -> None:
        send = getattr(api, method)

        def recorded(*, request: dict, **arguments):
            query, summed = request.get("structured_query"), None
            if query is None:
                aggregation = request["structured_aggregation_query"]
                query, summed = aggregation.structured_query, summed_by(aggregation)
            seen.add((*shape_of(query), summed))
            return send(request=request, **arguments)

        monkeypatch.setattr(api, method, recorded)

    record("run_query")
    record("run_aggregation_query")
    return seen


def test_every_query_the_store_sends_is_listed_and_every_listed_one_is_sent(
    firestore_jobs, shapes, noon, log_lines_per_job
):
    assert use_every_method(firestore_jobs, noon, log_lines_per_job) == {
        name for name in vars(JobStore) if not name.startswith("_")
    } - {"close"}
    assert shapes == {
        (query.collection, query.equal, query.ordered, query.summed) for query in QUERIES
    }


ENDPOINT = WebhookEndpoint(owner="ada", url="https://reel.example/", secret="whsec_b2xk")


def use_every_method(store: FirestoreJobs, noon, log_lines_per_job) -> set[str]:
    job = picture_job(id="job_1", idempotency_key="once")
    beat = WorkerBeat(
        instance="w", model="m", device=None, model_loaded=False, job_id=None, seen_at=noon
    )
    too_many = ["x"] * (log_lines_per_job + 1)
    calls = {
        "admit": lambda: (store.admit(job), store.admit(job, EVERY_LIMIT)),
        "get": lambda: store.get(job.id),
        "update": lambda: store.update(job.id, lambda stored: stored),
        "list": lambda: [
            store.list("ada", kind="image", limit=9, after=after, newest_first=newest, statuses=of)
            for after in (None, job.id)
            for newest in (True, False)
            for of in (None, [JobStatus.QUEUED], list(JobStatus))
        ],
        "due": lambda: store.due(noon, limit=9, statuses=JobStatus),
        "counts": store.counts,
        "ended_since": lambda: (
            store.ended_since(noon, owner="ada"),
            store.ended_since(noon, model="wan2.1-demo"),
        ),
        "queued_before": lambda: store.queued_before(
            "wan2.1-demo", [noon, noon + timedelta(days=1)]
        ),
        "used": lambda: store.used("ada", "2026-01"),
        "watch": lambda: list(store.watch(job.id, timeout_seconds=0.1)),
        "append_log": lambda: [store.append_log(job.id, too_many, now=noon) for _ in range(2)],
        "tail_log": lambda: store.tail_log(job.id, tail=9),
        "read_log": lambda: store.read_log(job.id, after=1, limit=9),
        "beat": lambda: store.beat(beat),
        "workers": lambda: store.workers(seen_since=noon),
        "change_endpoint": lambda: store.change_endpoint("ada", lambda _: ENDPOINT),
        "endpoint": lambda: store.endpoint("ada"),
        "remove_endpoint": lambda: store.remove_endpoint("ada"),
        "note_key_use": lambda: store.note_key_use("0123abcd", noon),
        "key_uses": store.key_uses,
        "ping": store.ping,
        "delete": lambda: store.delete(job.id),
    }
    for call in calls.values():
        call()
    return set(calls)


def shape_of(query: StructuredQuery) -> tuple[str, tuple[str, ...], tuple[IndexField, ...]]:
    (source,) = query.from_
    assert not source.all_descendants  # a collection group's index would be another
    filters = list(field_filters(query.where))
    equal = tuple(one.field.field_path for one in filters if one.op in EQUAL)
    ranges = dict.fromkeys(one.field.field_path for one in filters if one.op not in EQUAL)
    ordered = [
        IndexField(path=order.field.field_path, order=order.direction.name)
        for order in query.order_by
    ]
    if ordered and ordered[-1].path == "__name__":
        # Firestore would add it by itself, but in this direction only.
        assert ordered[-1].order == ordered[-2].order
        ordered.pop()
    # Where no order is asked for, Firestore's own is that of the range.
    ordered = ordered or [IndexField(path=path) for path in ranges]
    assert set(ranges) <= {field.path for field in ordered[:1]}
    return source.collection_id, equal, tuple(ordered)


def summed_by(aggregation: StructuredAggregationQuery) -> str | None:
    (only,) = aggregation.aggregations
    return only.sum.field.field_path if "sum" in only else None


def field_filters(where: StructuredQuery.Filter) -> Iterator[StructuredQuery.FieldFilter]:
    if "field_filter" in where:
        yield where.field_filter
    assert "unary_filter" not in where
    for inner in where.composite_filter.filters:
        yield from field_filters(inner)
