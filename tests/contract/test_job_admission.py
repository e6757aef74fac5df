"""What ``JobStore.admit`` promises about limits, whichever adapter keeps the jobs."""

import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from shared.admission import AdmissionLimits
from shared.errors import (
    IdempotencyConflict,
    JobNotFound,
    QueueFull,
    RateExceeded,
    TooManyInFlight,
    TooManyJobs,
)
from shared.job import Job, JobError, JobStatus, to_document
from shared.ports import JobStore
from shared.transitions import acknowledge_cancel, claim, dead_letter, fail, request_cancel

TWO_QUEUED_OF_MODEL = AdmissionLimits(queued_per_model=2)
TWO_QUEUED = AdmissionLimits(queued_per_owner=2)
TWO_IN_FLIGHT = AdmissionLimits(in_flight_per_owner=2)
TWO_A_MINUTE = AdmissionLimits(submissions_per_minute_per_owner=2)

every_limit = pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (TWO_QUEUED_OF_MODEL, QueueFull),
        (TWO_QUEUED, QueueFull),
        (TWO_IN_FLIGHT, TooManyInFlight),
        (TWO_A_MINUTE, RateExceeded),
    ],
    ids=["queued of model", "queued of owner", "in flight", "by the minute"],
)
every_exact_limit = pytest.mark.parametrize(
    ("limits", "places"),
    [
        (AdmissionLimits(in_flight_per_owner=1), 1),
        (AdmissionLimits(in_flight_per_owner=3), 3),
        (AdmissionLimits(submissions_per_minute_per_owner=5), 5),
        (AdmissionLimits(in_flight_per_owner=4, submissions_per_minute_per_owner=2), 2),
    ],
    ids=["1 in flight", "3 in flight", "5 a minute", "both"],
)

# Four at a time.
ADMIT = """
from concurrent.futures import ThreadPoolExecutor
from shared.admission import AdmissionLimits
from shared.errors import TooManyJobs
from shared.job import from_document

limits = AdmissionLimits(**eval(sys.argv[1]))

def admit(document):
    job = from_document(document)
    try:
        opened.admit(job, limits)
    except TooManyJobs:
        return None
    return job.id

with ThreadPoolExecutor(4) as threads:
    admitted = list(threads.map(admit, sys.stdin.readline().split("\t")))
print(*filter(None, admitted), flush=True)
"""


@pytest.fixture
def claimed(noon) -> Callable[[Job], Job]:
    return partial(claim, token="t", worker="w", now=noon, lease_seconds=30)


def of_model(job: Job, model: str) -> Job:
    return replace(job, request=replace(job.request, model=model))


def is_admitted(store: JobStore, job: Job, limits: AdmissionLimits) -> bool:
    try:
        return store.admit(job, limits).created
    except TooManyJobs:
        return False


def refusal_of(store: JobStore, job: Job, limits: AdmissionLimits) -> TooManyJobs:
    with pytest.raises(TooManyJobs) as caught:
        store.admit(job, limits)
    return caught.value


# --- each limit


@every_limit
def test_as_many_come_in_as_the_limit_says_and_not_one_more(job_store, new_job, limits, refusal):
    for _ in range(2):
        assert job_store.admit(new_job(), limits).created
    assert type(refusal_of(job_store, new_job(), limits)) is refusal


@every_limit
def test_jobs_that_came_without_a_limit_count_too(job_store, new_job, limits, refusal):
    for _ in range(2):
        job_store.admit(new_job())
    assert type(refusal_of(job_store, new_job(), limits)) is refusal


@pytest.mark.parametrize("limits", [TWO_QUEUED, TWO_IN_FLIGHT, TWO_A_MINUTE])
def test_another_owner_is_not_held_up(job_store, new_job, limits):
    for _ in range(2):
        job_store.admit(new_job(), limits)
    assert job_store.admit(new_job(owner="bob"), limits).created


def test_another_model_is_not_held_up_but_another_owner_is(job_store, new_job):
    for _ in range(2):
        job_store.admit(new_job(), TWO_QUEUED_OF_MODEL)
    assert not is_admitted(job_store, new_job(owner="bob"), TWO_QUEUED_OF_MODEL)
    assert job_store.admit(of_model(new_job(), "wan2.1"), TWO_QUEUED_OF_MODEL).created


@every_limit
def test_a_refused_job_leaves_nothing_behind(job_store, new_job, limits, refusal):
    for _ in range(2):
        job_store.admit(new_job(), limits)
    refused = new_job(idempotency_key="once")
    with pytest.raises(refusal):
        job_store.admit(refused, limits)
    with pytest.raises(JobNotFound):
        job_store.get(refused.id)
    assert job_store.counts()[JobStatus.QUEUED] == 2
    # Its key is as free as before, for another request too.
    assert job_store.admit(new_job(idempotency_key="once", request_hash="other")).created


@every_limit
def test_a_known_key_returns_the_earlier_job_although_the_limit_is_reached(
    job_store, new_job, limits, refusal
):
    first = new_job(idempotency_key="once")
    for job in (first, new_job()):
        job_store.admit(job, limits)
    again = job_store.admit(new_job(idempotency_key="once"), limits)
    assert (again.job, again.created) == (first, False)
    with pytest.raises(IdempotencyConflict):
        job_store.admit(new_job(idempotency_key="once", request_hash="other"), limits)
    with pytest.raises(refusal):
        job_store.admit(new_job(idempotency_key="other"), limits)


# --- what makes room


@pytest.mark.parametrize("limits", [TWO_QUEUED_OF_MODEL, TWO_QUEUED])
def test_a_job_that_is_started_makes_room_in_the_queue(job_store, new_job, claimed, limits):
    first = new_job()
    for job in (first, new_job()):
        job_store.admit(job, limits)
    job_store.update(first.id, claimed)
    assert job_store.admit(new_job(), limits).created
    assert not is_admitted(job_store, new_job(), limits)


def test_a_job_in_flight_makes_room_when_it_ends_and_not_before(
    job_store, new_job, claimed, finish, noon
):
    first, second = new_job(), new_job()
    for job in (first, second):
        job_store.admit(job, TWO_IN_FLIGHT)
    job_store.update(second.id, claimed)
    assert not is_admitted(job_store, new_job(), TWO_IN_FLIGHT)
    job_store.update(first.id, finish)
    assert is_admitted(job_store, new_job(), TWO_IN_FLIGHT)
    job_store.update(second.id, partial(acknowledge_cancel, token="t", now=noon))
    assert is_admitted(job_store, new_job(), TWO_IN_FLIGHT)
    assert not is_admitted(job_store, new_job(), TWO_IN_FLIGHT)


def test_a_forgotten_job_is_not_in_flight(job_store, new_job):
    first = new_job()
    for job in (first, new_job()):
        job_store.admit(job, TWO_IN_FLIGHT)
    job_store.delete(first.id)
    assert is_admitted(job_store, new_job(), TWO_IN_FLIGHT)


def test_a_submission_counts_for_a_minute_to_the_microsecond(job_store, new_job, finish, noon):
    first, second = new_job(created_at=noon), new_job(created_at=noon + timedelta(seconds=20))
    for job in (first, second):
        job_store.admit(job, TWO_A_MINUTE)
    job_store.update(first.id, finish)  # It was submitted nevertheless.
    almost = noon + timedelta(minutes=1, microseconds=-1)
    assert not is_admitted(job_store, new_job(created_at=almost), TWO_A_MINUTE)
    minute = noon + timedelta(minutes=1)
    assert is_admitted(job_store, new_job(created_at=minute), TWO_A_MINUTE)
    assert not is_admitted(job_store, new_job(created_at=minute), TWO_A_MINUTE)


# --- when to come back


@pytest.mark.parametrize("submissions", [2, 4])
def test_who_submits_too_fast_is_let_in_after_the_wait_and_not_a_second_earlier(
    job_store, new_job, noon, submissions
):
    for number in range(submissions):
        job_store.admit(new_job(created_at=noon + timedelta(seconds=number)))
    now = noon + timedelta(seconds=10, milliseconds=500)
    wait = refusal_of(job_store, new_job(created_at=now), TWO_A_MINUTE).retry_after_seconds
    early, late = (new_job(created_at=now + timedelta(seconds=wait - by)) for by in (1, 0))
    assert not is_admitted(job_store, early, TWO_A_MINUTE)
    assert is_admitted(job_store, late, TWO_A_MINUTE)


@pytest.mark.parametrize("limits", [TWO_QUEUED, TWO_IN_FLIGHT])
def test_the_wait_for_an_owners_place_is_measured_by_the_owners_own_jobs(
    job_store, new_job, finish, limits
):
    for owner, jobs in (("ada", 3), ("bob", 20)):
        for _ in range(jobs):
            job_store.admit(job := new_job(owner=owner))
            job_store.update(job.id, finish)
    for _ in range(3):
        job_store.admit(new_job())
    # Two must go before another may come, and one goes in 200 seconds.
    assert refusal_of(job_store, new_job(), limits).retry_after_seconds == 400


def test_the_wait_for_a_models_place_is_measured_by_the_jobs_of_that_model(
    job_store, new_job, finish
):
    for owner, model in (("ada", "wan2.1-demo"), ("bob", "wan2.1-demo"), ("bob", "wan2.1")):
        job_store.admit(job := of_model(new_job(owner=owner), model))
        job_store.update(job.id, finish)
    for _ in range(2):
        job_store.admit(new_job(), TWO_QUEUED_OF_MODEL)
    refused = refusal_of(job_store, new_job(), TWO_QUEUED_OF_MODEL)
    assert refused.retry_after_seconds == 300


def test_where_nothing_has_ended_lately_the_wait_is_half_a_minute(job_store, new_job, finish, noon):
    job_store.admit(long_ago := new_job())
    job_store.update(long_ago.id, finish)
    later = noon + timedelta(minutes=10, seconds=1)
    for _ in range(2):
        job_store.admit(new_job(created_at=later))
    refused = refusal_of(job_store, new_job(created_at=later), TWO_IN_FLIGHT)
    assert refused.retry_after_seconds == 30


def test_of_jobs_that_ended_those_count_that_somebody_had_started(
    job_store, new_job, claimed, finish, noon
):
    finished, stopped, failed, waiting, undelivered, running = jobs = [new_job() for _ in range(6)]
    for job in jobs:
        job_store.admit(job)
    error = JobError(code="prompt_refused", message="No.")
    for job in (stopped, failed, running):
        job_store.update(job.id, claimed)
    for job, transition in (
        (finished, finish),
        (stopped, partial(acknowledge_cancel, token="t", now=noon)),
        (failed, partial(fail, token="t", error=error, now=noon)),
        (waiting, partial(request_cancel, now=noon)),
        (undelivered, partial(dead_letter, now=noon)),
    ):
        job_store.update(job.id, transition)
    for kind in ({"owner": "ada"}, {"model": "wan2.1-demo"}):
        assert job_store.ended_since(noon, **kind) == 3
        assert job_store.ended_since(noon + timedelta(milliseconds=1), **kind) == 0
    for other in ({"owner": "bob"}, {"model": "wan2.1"}):
        assert job_store.ended_since(noon, **other) == 0


# --- many at once


@every_exact_limit
def test_of_many_admissions_at_once_as_many_come_in_as_the_limit_says(
    job_store, new_job, limits, places
):
    jobs = [new_job() for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        admitted = list(threads.map(lambda job: is_admitted(job_store, job, limits), jobs))
    assert sum(admitted) == places
    assert sum(job_store.counts().values()) == places


@pytest.fixture
def admit_elsewhere(
    open_job_store, start_process
) -> Callable[[Sequence[Job], AdmissionLimits], subprocess.Popen]:
    """Starts a process that admits jobs, and prints the ids of those that came in."""

    def start(jobs: Sequence[Job], limits: AdmissionLimits) -> subprocess.Popen:
        process = start_process(ADMIT, open_job_store, repr(vars(limits)))
        process.stdin.write("\t".join(map(to_document, jobs)) + "\n")
        return process

    return start


@every_exact_limit
def test_of_two_processes_that_admit_at_once_as_many_jobs_come_in_as_the_limit_says(
    job_store, admit_elsewhere, new_job, limits, places
):
    jobs = [new_job() for _ in range(16)]
    processes = [admit_elsewhere(jobs[half::2], limits) for half in range(2)]
    for process in processes:
        process.stdin.flush()  # Only now do they have anything to do.
    admitted = [job_id for process in processes for job_id in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(admitted) == places
    assert all(job_store.get(job_id).status is JobStatus.QUEUED for job_id in admitted)
    assert sum(job_store.counts().values()) == places


def test_a_place_that_is_freed_again_and_again_has_one_taker_at_a_time(job_store, new_job, finish):
    """Eight callers, each with jobs to bring in one after the other; one may be in flight."""
    one = AdmissionLimits(in_flight_per_owner=1)
    inside: list[str] = []

    def bring_in(jobs: list[Job]) -> int:
        came_in = 0
        for job in jobs:
            if is_admitted(job_store, job, one):
                came_in += 1
                inside.append(job.id)
                assert inside == [job.id]
                inside.remove(job.id)
                job_store.update(job.id, finish)
        return came_in

    with ThreadPoolExecutor(8) as threads:
        came_in = list(threads.map(bring_in, [[new_job() for _ in range(5)] for _ in range(8)]))
    assert sum(came_in) == job_store.counts()[JobStatus.FINISHED] > 0
    assert sum(job_store.counts().values()) == sum(came_in)
