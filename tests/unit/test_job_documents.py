"""The stored form of a job in Firestore, and the list of what Firestore must be set up with."""

from dataclasses import fields
from datetime import timedelta

import pytest
from google.cloud.firestore_v1._helpers import decode_dict, encode_dict
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.gcp import indexes
from shared.adapters.gcp.indexes import COMPOSITE_INDEXES, FIELD_SETTINGS, QUERIES, IndexField
from shared.adapters.gcp.job_documents import (
    beat_fields,
    beat_from,
    expire_at,
    job_fields,
    job_from,
)
from shared.job import (
    Artifact,
    Charge,
    ImageMode,
    ImageRequest,
    InputFile,
    Job,
    JobError,
    Lease,
    Phase,
    RemoteWork,
    RenderRequest,
    RenderSummary,
    Retention,
)
from shared.ports import WorkerBeat
from tests.jobs import IMAGE_REQUEST, NOON, REQUEST, picture_job, plain_job

# Firestore keeps microseconds, and integers of 64 bits.
moments = st.timedeltas(timedelta(days=-365), timedelta(days=36500)).map(lambda by: NOON + by)
texts = st.text(max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
seconds = st.integers(24 * 3600, 10**8)  # a day is the least that can be configured
leases = st.builds(Lease, token=texts, worker=texts, claimed_at=moments, expires_at=moments)
artifacts = st.builds(Artifact, key=texts, size_bytes=numbers, width=numbers, height=numbers)
image_requests = st.builds(
    ImageRequest,
    prompt=texts,
    mode=st.sampled_from(ImageMode),
    inputs=st.lists(st.builds(InputFile, key=texts), max_size=2).map(tuple),
)
jobs = st.builds(
    Job,
    owner=texts,
    request=st.builds(RenderRequest, prompt=texts, seed=numbers, duration_seconds=numbers)
    | image_requests,
    created_at=moments,
    retention=st.builds(Retention, artifact_seconds=seconds, job_seconds=seconds),
    max_attempts=numbers,
    attempt=numbers,
    idempotency_key=st.none() | texts,
    phase=st.none() | st.sampled_from(Phase),
    lease=st.none() | leases,
    published_at=st.none() | moments,
    started_at=st.none() | moments,
    finished_at=st.none() | moments,
    artifacts=st.lists(artifacts, max_size=3).map(tuple),
    artifacts_expired_at=st.none() | moments,
    leftovers=st.booleans(),
    remixed_from=st.none() | texts,
    hidden_at=st.none() | moments,
    summary=st.none()
    | st.builds(
        RenderSummary,
        frames=numbers,
        fps=numbers,
        generation_seconds=st.floats(0, 1e6),
        phase_seconds=st.dictionaries(
            st.sampled_from([phase.value for phase in Phase]), st.floats(0, 1e6)
        ),
    ),
    error=st.none() | st.builds(JobError, message=texts),
    remote=st.none() | st.builds(RemoteWork, gives_up_at=moments, heard_at=st.none() | moments),
    charge=st.none() | st.builds(Charge, given_back_at=st.none() | moments),
)


def as_read_back(document: dict) -> dict:
    """Through Google's own wire form."""
    return decode_dict(encode_dict(document), client=None)


def every_value(value):
    yield value
    if isinstance(value, tuple):
        for item in value:
            yield from every_value(item)
    if hasattr(value, "__dataclass_fields__"):
        for field in fields(value):
            yield from every_value(getattr(value, field.name))


@given(jobs)
def test_a_stored_job_reads_back_as_it_was(job):
    back = job_from(as_read_back(job_fields(job, revision="r")))
    assert back == job
    # Google's own subclass of datetime counts nanoseconds, and would travel on from here.
    assert {type(value) for value in every_value(back)} == {type(v) for v in every_value(job)}


@given(jobs)
def test_a_document_has_what_queries_need_from_the_same_job(job):
    document = as_read_back(job_fields(job, revision="r"))
    assert document["due_at"] == job.due_at
    assert document["status"] == job.status.value
    assert document["expire_at"] == expire_at(job)
    assert document["work_ended_at"] == (job.finished_at if job.started_at else None)


def test_a_field_a_newer_version_stored_is_ignored(a_job):
    assert job_from(job_fields(a_job, revision="r") | {"mood": "sunny"}) == a_job


def test_a_video_stored_before_there_were_pictures_reads_back_as_it_was(a_job):
    fields = job_fields(a_job, revision="r")
    assert "kind" not in fields["request"]
    for field in ("remote", "charge", "remixed_from", "hidden_at"):
        del fields[field]
    del fields["request"]["negative_prompt"], fields["request"]["first_frame"]
    assert job_from(fields) == a_job


def test_the_kind_tells_a_picture_from_a_video_whatever_fields_a_newer_version_added(a_job):
    for job, other in ((a_job, IMAGE_REQUEST), (picture_job(), REQUEST)):
        fields = job_fields(job, revision="r")
        added = {**vars(other), "kind": "video", "mood": "sunny"}
        assert job_from(fields | {"request": added | fields["request"]}) == job


def test_a_job_stored_before_there_were_leftovers_has_none(a_job):
    fields = job_fields(a_job, revision="r")
    del fields["leftovers"]
    assert job_from(fields) == a_job


@given(st.builds(WorkerBeat, instance=texts, seen_at=moments))
def test_a_stored_heartbeat_reads_back_as_it_was(beat):
    assert beat_from(as_read_back(beat_fields(beat))) == beat


@given(jobs)
def test_firestore_deletes_no_job_before_the_sweep_has_had_days_to(job):
    if job.finished_at is None:
        assert expire_at(job) is None
    else:
        assert expire_at(job) - job.due_at >= timedelta(days=7)


# --- indexes


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.made_by)
def test_a_query_over_several_fields_has_its_index(query):
    summed = () if query.summed is None else (IndexField(path=query.summed),)
    wanted = (*(IndexField(path=path) for path in query.equal), *query.ordered, *summed)
    if len(wanted) > 1:
        assert query.index is not None
        assert query.index.collection == query.collection
        assert query.index.fields == wanted
        assert query.index in COMPOSITE_INDEXES
    else:
        # Firestore keeps these itself, and refuses to be told to.
        assert query.index is None


def test_every_composite_index_serves_a_query():
    assert {query.index for query in QUERIES} - {None} == set(COMPOSITE_INDEXES)


def test_every_collection_but_the_ledger_expires_and_no_field_a_query_needs_is_left_unindexed():
    groups = {indexes.JOBS, indexes.LOG, indexes.IDEMPOTENCY, indexes.OWNERS, indexes.WORKERS}
    assert {one.collection_group for one in FIELD_SETTINGS if one.ttl} == groups
    needed = {
        (query.collection, path)
        for query in QUERIES
        for path in (*query.equal, *(field.path for field in query.ordered), query.summed)
    }
    unindexed = {(one.collection_group, one.path) for one in FIELD_SETTINGS if not one.indexed}
    assert not needed & unindexed


@pytest.fixture
def a_job() -> Job:
    return plain_job()
