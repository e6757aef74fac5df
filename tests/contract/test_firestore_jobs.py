"""What only Firestore can get wrong: replies that are lost, servers that are away, what it deletes."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from google.api_core.exceptions import Aborted, PermissionDenied

from shared.adapters.gcp import firestore_calls
from shared.adapters.gcp.firestore_jobs import FirestoreJobs
from shared.adapters.gcp.indexes import IDEMPOTENCY, JOBS, LOG, OWNERS, USAGE, WORKERS
from shared.admission import NO_LIMITS, AdmissionLimits
from shared.errors import StoreUnavailable, TooManyInFlight
from shared.job import Charge, Job, JobStatus
from shared.ports import JobStore, WorkerBeat
from shared.transitions import claim
from tests.jobs import picture_job

ONE_IN_FLIGHT = AdmissionLimits(in_flight_per_owner=1)
ONE_PICTURE = AdmissionLimits(images_per_month_per_owner=1, images_in_flight_per_owner=1)


def one_more(job: Job) -> Job:
    return replace(job, attempt=job.attempt + 1)


def given_back(job: Job) -> Job:
    return replace(job, charge=replace(job.charge, given_back_at=job.created_at))


def documents(store: FirestoreJobs, collection_group: str) -> list[dict]:
    return [found.to_dict() for found in store._client.collection_group(collection_group).get()]


# --- documents


def test_a_job_is_a_document_people_can_read(firestore_jobs, new_job, noon):
    job = new_job()
    firestore_jobs.admit(job)
    firestore_jobs.update(
        job.id, partial(claim, token="t", worker="w1", now=noon, lease_seconds=30)
    )
    (document,) = documents(firestore_jobs, JOBS)
    assert document["status"] == "started"
    assert document["created_at"] == job.created_at
    assert document["request"]["prompt"] == job.request.prompt
    assert document["lease"]["worker"] == "w1"
    assert document["lease"]["expires_at"] == document["due_at"] == noon + timedelta(seconds=30)


def test_a_field_another_version_added_survives_an_update(firestore_jobs, new_job):
    job = new_job()
    firestore_jobs.admit(job)
    firestore_jobs._client.collection(JOBS).document(job.id).update({"mood": "sunny"})
    firestore_jobs.update(job.id, one_more)
    assert documents(firestore_jobs, JOBS)[0]["mood"] == "sunny"


def test_a_log_longer_than_a_document_is_kept_whole(open_firestore_jobs, new_job, noon):
    job = new_job()
    lines = [f"{number:03} " + "x" * 10_000 for number in range(200)]
    with closing(open_firestore_jobs(log_lines_per_job=1000)) as store:
        store.admit(job)
        store.append_log(job.id, lines, now=noon)
        tail = store.tail_log(job.id, tail=1000)
        assert [line.split()[1] for line in tail] == [line[:3] for line in lines]
        assert len(documents(store, LOG)) > 1
        store.delete(job.id)
        assert documents(store, LOG) == []


def test_lines_beyond_the_limit_are_deleted_not_only_hidden(
    firestore_jobs, new_job, noon, log_lines_per_job
):
    job = new_job()
    firestore_jobs.admit(job)
    for number in range(3 * log_lines_per_job // 10):
        firestore_jobs.append_log(job.id, [f"{number}"] * 10, now=noon)
    stored = [line for document in documents(firestore_jobs, LOG) for line in document["lines"]]
    assert len(stored) == log_lines_per_job


# --- what Firestore deletes by itself


def test_everything_expires_after_the_sweep_has_had_its_time(firestore_jobs, new_job, finish, noon):
    job = new_job(idempotency_key="once")
    firestore_jobs.admit(job)
    firestore_jobs.append_log(job.id, ["one"], now=noon)
    finished = firestore_jobs.update(job.id, finish)
    firestore_jobs.beat(a_beat(noon))
    kept_until = finished.finished_at + timedelta(seconds=job.retention.job_seconds)
    for group in (JOBS, IDEMPOTENCY, LOG):
        (document,) = documents(firestore_jobs, group)
        assert document["expire_at"] == kept_until + timedelta(days=7)
    assert documents(firestore_jobs, WORKERS)[0]["expire_at"] == noon + timedelta(days=1)


def test_a_job_that_has_not_ended_does_not_expire_and_neither_does_its_key(
    firestore_jobs, new_job, noon
):
    job = new_job(idempotency_key="once")
    firestore_jobs.admit(job)
    firestore_jobs.update(job.id, partial(claim, token="t", worker="w", now=noon, lease_seconds=30))
    for group in (JOBS, IDEMPOTENCY):
        assert documents(firestore_jobs, group)[0]["expire_at"] is None


def test_a_key_whose_job_firestore_has_deleted_first_is_free(firestore_jobs, new_job):
    first, second, third = (new_job(idempotency_key="once") for _ in range(3))
    firestore_jobs.admit(first)
    firestore_jobs._client.collection(JOBS).document(first.id).delete()
    assert firestore_jobs.admit(second).created
    assert firestore_jobs.admit(third).job == second


def test_of_two_admissions_that_find_a_key_free_one_creates_the_job(firestore_jobs, new_job):
    first = new_job(idempotency_key="once")
    firestore_jobs.admit(first)
    firestore_jobs._client.collection(JOBS).document(first.id).delete()
    with ThreadPoolExecutor(8) as threads:
        jobs = [new_job(idempotency_key="once") for _ in range(8)]
        admitted = list(threads.map(firestore_jobs.admit, jobs))
    assert sum(one.created for one in admitted) == 1
    assert len({one.job.id for one in admitted}) == 1


def test_a_deleted_job_does_not_take_the_key_of_its_successor_with_it(firestore_jobs, new_job):
    first, second = (new_job(idempotency_key="once") for _ in range(2))
    firestore_jobs.admit(first)
    stored = firestore_jobs._client.collection(JOBS).document(first.id)
    document = stored.get().to_dict()
    stored.delete()
    firestore_jobs.admit(second)
    stored.set(document)
    firestore_jobs.delete(first.id)
    assert firestore_jobs.admit(new_job(idempotency_key="once")).job == second


def test_an_owner_who_brings_no_more_jobs_is_forgotten_after_a_day(firestore_jobs, new_job):
    job = new_job()
    firestore_jobs.admit(job, ONE_IN_FLIGHT)
    (document,) = documents(firestore_jobs, OWNERS)
    assert document["expire_at"] == job.created_at + timedelta(days=1)


def test_an_owner_firestore_has_forgotten_still_has_the_jobs_in_flight(
    firestore_jobs, new_job, finish
):
    first = new_job()
    firestore_jobs.admit(first, ONE_IN_FLIGHT)
    (owner,) = firestore_jobs._client.collection(OWNERS).get()
    owner.reference.delete()
    with pytest.raises(TooManyInFlight):
        firestore_jobs.admit(new_job(), ONE_IN_FLIGHT)
    firestore_jobs.update(first.id, finish)
    assert firestore_jobs.admit(new_job(), ONE_IN_FLIGHT).created


@pytest.mark.parametrize(
    "limits", [NO_LIMITS, AdmissionLimits(queued_per_model=9, queued_per_owner=9)]
)
def test_owners_whose_jobs_need_no_exact_count_do_not_wait_for_each_other(
    firestore_jobs, new_job, limits
):
    firestore_jobs.admit(new_job(), limits)
    assert documents(firestore_jobs, OWNERS) == []


# --- replies that are lost


@pytest.fixture
def repeated_commits(firestore_jobs, monkeypatch) -> FirestoreJobs:
    """A store whose every commit is stored, and sent again because its reply was lost."""
    api = firestore_jobs._client._firestore_api
    commit = api.commit

    def lose_the_first_reply(**arguments):
        commit(**arguments)
        return commit(**arguments)

    monkeypatch.setattr(api, "commit", lose_the_first_reply)
    return firestore_jobs


@pytest.mark.parametrize("limits", [NO_LIMITS, ONE_IN_FLIGHT, ONE_PICTURE])
@pytest.mark.parametrize("key", [None, "once"])
@pytest.mark.parametrize("charge", [None, Charge(month="2026-01")])
def test_an_admission_whose_reply_was_lost_has_still_created_the_job(
    repeated_commits, new_job, key, charge, limits
):
    job = new_job(idempotency_key=key, charge=charge)
    admitted = repeated_commits.admit(job, limits)
    assert admitted.created
    assert admitted.job == job == repeated_commits.get(job.id)
    assert repeated_commits.used("ada", "2026-01") == (0 if charge is None else 1)


@pytest.mark.parametrize("limits", [ONE_IN_FLIGHT, ONE_PICTURE])
def test_a_job_that_was_stored_and_is_tried_again_is_not_refused_for_its_own_place(
    firestore_jobs, new_job, monkeypatch, limits
):
    api = firestore_jobs._client._firestore_api
    commit = api.commit

    def store_and_deny_it(**arguments):
        monkeypatch.setattr(api, "commit", commit)
        commit(**arguments)
        raise Aborted("try again")

    monkeypatch.setattr(api, "commit", store_and_deny_it)
    job = new_job(charge=Charge(month="2026-01"))
    admitted = firestore_jobs.admit(job, limits)
    assert admitted.created
    assert admitted.job == job == firestore_jobs.get(job.id)
    assert firestore_jobs.used("ada", "2026-01") == 1


def test_an_update_whose_reply_was_lost_is_made_once(repeated_commits, new_job):
    job = new_job()
    repeated_commits.admit(job)
    assert repeated_commits.update(job.id, one_more).attempt == 1
    assert repeated_commits.get(job.id).attempt == 1


def test_a_giving_back_whose_reply_was_lost_is_entered_once(repeated_commits):
    job = picture_job()
    repeated_commits.admit(job)
    assert repeated_commits.update(job.id, given_back) == given_back(job)
    assert repeated_commits.used("ada", "2026-01") == 0
    assert len(documents(repeated_commits, USAGE)) == 2


def test_a_log_line_whose_reply_was_lost_is_there_once(repeated_commits, new_job, noon):
    job = new_job()
    repeated_commits.admit(job)
    repeated_commits.append_log(job.id, ["one"], now=noon)
    assert len(repeated_commits.tail_log(job.id, tail=10)) == 1


# --- too many writers


def test_an_update_that_is_always_overtaken_gives_up_and_changes_nothing(
    firestore_jobs, open_firestore_jobs, new_job, monkeypatch
):
    monkeypatch.setattr(firestore_calls, "_OVERTAKEN_SECONDS", 0.5)
    job = new_job(max_attempts=1000)
    firestore_jobs.admit(job)
    with closing(open_firestore_jobs()) as other:

        def overtaken(stored: Job) -> Job:
            other.update(job.id, one_more)
            return replace(stored, progress=99)

        with pytest.raises(StoreUnavailable, match="too many writers"):
            firestore_jobs.update(job.id, overtaken)
    assert firestore_jobs.get(job.id).progress == 0


# --- a server that refuses, or is away


def test_what_firestore_says_of_a_refusal_is_not_passed_on(firestore_jobs, monkeypatch):
    def refuse(**_arguments):
        raise PermissionDenied("no permission on projects/secret/databases/(default)")

    monkeypatch.setattr(firestore_jobs._client._firestore_api, "batch_get_documents", refuse)
    with pytest.raises(StoreUnavailable) as caught:
        firestore_jobs.get("job_1")
    assert "PermissionDenied" in caught.value.message
    assert "secret" not in caught.value.message


@pytest.fixture
def stores_that_are_away(monkeypatch) -> Iterator[list[FirestoreJobs]]:
    """At one address nobody listens; at the other somebody does, and never answers."""
    with ExitStack() as stack:
        stores = []
        for listens in (False, True):
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", 0))
            if listens:
                server.listen()
            monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", f"127.0.0.1:{server.getsockname()[1]}")
            store = FirestoreJobs(project="demo-secret-project")
            stores.append(stack.enter_context(closing(store)))
        yield stores


def test_a_server_that_is_away_is_told_in_time_and_without_its_name(
    stores_that_are_away, new_job, noon
):
    """As every call, all at once: a caller waits seconds, not Google's minutes."""
    calls = {
        "admit": partial(FirestoreJobs.admit, job=new_job(idempotency_key="once")),
        "get": partial(FirestoreJobs.get, job_id="job_secret"),
        "update": partial(FirestoreJobs.update, job_id="job_secret", transition=one_more),
        "delete": partial(FirestoreJobs.delete, job_id="job_secret"),
        "list": partial(FirestoreJobs.list, owner="secret", kind="video", limit=1),
        "due": partial(FirestoreJobs.due, now=noon, limit=1, statuses=JobStatus),
        "counts": FirestoreJobs.counts,
        "ended_since": partial(FirestoreJobs.ended_since, since=noon, owner="secret"),
        "queued_before": partial(FirestoreJobs.queued_before, model="secret", moments=[noon]),
        "used": partial(FirestoreJobs.used, owner="secret", month="2026-01"),
        "watch": lambda store: list(store.watch("job_secret", timeout_seconds=60)),
        "append_log": partial(FirestoreJobs.append_log, job_id="job_secret", lines=["1"], now=noon),
        "tail_log": partial(FirestoreJobs.tail_log, job_id="job_secret", tail=1),
        "read_log": partial(FirestoreJobs.read_log, job_id="job_secret", after=0, limit=1),
        "beat": partial(FirestoreJobs.beat, beat=a_beat(noon)),
        "workers": partial(FirestoreJobs.workers, seen_since=noon),
        "endpoint": partial(FirestoreJobs.endpoint, owner="secret"),
        "change_endpoint": partial(
            FirestoreJobs.change_endpoint, owner="secret", change=lambda stored: stored
        ),
        "remove_endpoint": partial(FirestoreJobs.remove_endpoint, owner="secret"),
        "note_key_use": partial(FirestoreJobs.note_key_use, key_id="secret", at=noon),
        "key_uses": FirestoreJobs.key_uses,
        "ping": FirestoreJobs.ping,
    }
    assert {*calls, "close"} == {name for name in vars(JobStore) if name[0] != "_"}

    def error_of(call: Callable[[FirestoreJobs], object], store: FirestoreJobs) -> str:
        with pytest.raises(StoreUnavailable) as caught:
            call(store)
        return caught.value.message

    started = time.monotonic()
    with ThreadPoolExecutor(2 * len(calls)) as threads:
        told = [
            threads.submit(error_of, call, store)
            for store in stores_that_are_away
            for call in calls.values()
        ]
    assert not any("secret" in one.result() for one in told)
    assert time.monotonic() - started < 15


# --- pieces


def a_beat(seen_at: datetime) -> WorkerBeat:
    return WorkerBeat(
        instance="w/1",
        model="m",
        device=None,
        model_loaded=False,
        job_id=None,
        seen_at=seen_at.astimezone(UTC),
    )
