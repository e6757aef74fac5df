"""What ``JobStore`` promises about pictures: their limits, and the ledger of what counts in a month."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from shared.admission import AdmissionLimits
from shared.errors import (
    IdempotencyConflict,
    LeaseHeld,
    MonthlyLimitReached,
    TooManyInFlight,
    TooManyJobs,
)
from shared.job import Charge, Job, JobStatus, RemoteWork
from shared.ports import JobStore
from shared.transitions import request_cancel
from tests.jobs import picture_job

JANUARY, FEBRUARY = "2026-01", "2026-02"
MIDNIGHT = datetime(2026, 2, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

TWO_IN_FLIGHT = AdmissionLimits(images_in_flight_per_owner=2)
TWO_A_MONTH = AdmissionLimits(images_per_month_per_owner=2)


@pytest.fixture
def new_picture(new_job) -> Callable[..., Job]:
    """Like ``new_job``: each one another job, a second younger."""

    def make(**fields) -> Job:
        like = new_job()
        return picture_job(**{"id": like.id, "created_at": like.created_at, **fields})

    return make


def given_back(job: Job, *, at: datetime = MIDNIGHT) -> Job:
    return replace(job, charge=replace(job.charge, given_back_at=at))


def is_admitted(store: JobStore, job: Job, limits: AdmissionLimits) -> bool:
    try:
        return store.admit(job, limits).created
    except TooManyJobs:
        return False


# --- the job


def test_a_job_for_a_picture_reads_back_as_it_was_at_every_change(
    job_store, open_job_store, new_picture, new_job, noon
):
    picture, video = new_picture(idempotency_key="once"), new_job()
    for job in (picture, video):
        job_store.admit(job)
    assert job_store.get(picture.id) == picture
    assert job_store.admit(picture).job == picture
    remote = RemoteWork(
        provider="replicate", gives_up_at=noon, prediction_id="p1", heard_at=noon, ran=True
    )
    changed = job_store.update(
        picture.id, lambda job: given_back(replace(job, remote=remote, status=JobStatus.STARTED))
    )
    assert changed == job_store.get(picture.id)
    assert (changed.remote, changed.charge.given_back_at) == (remote, MIDNIGHT)
    with closing(open_job_store()) as other:
        assert list(other.list("ada", kind="image", limit=9).jobs) == [changed]
        assert list(other.list("ada", kind="video", limit=9).jobs) == [video]


# --- in flight


def test_as_many_pictures_are_in_flight_as_the_limit_says_and_not_one_more(job_store, new_picture):
    for _ in range(2):
        assert job_store.admit(new_picture(), TWO_IN_FLIGHT).created
    with pytest.raises(TooManyInFlight, match="At most 2 of your images"):
        job_store.admit(new_picture(), TWO_IN_FLIGHT)
    assert job_store.used("ada", JANUARY) == 2


def test_only_pictures_and_only_the_owners_count_as_pictures_in_flight(
    job_store, new_picture, new_job
):
    for _ in range(3):
        job_store.admit(new_job())
        job_store.admit(new_picture(owner="bob"))
    job_store.admit(new_picture())  # It came without a limit, and counts.
    assert is_admitted(job_store, new_picture(), TWO_IN_FLIGHT)
    assert not is_admitted(job_store, new_picture(), TWO_IN_FLIGHT)
    assert not is_admitted(job_store, new_picture(owner="bob"), TWO_IN_FLIGHT)


@pytest.mark.parametrize("status", JobStatus)
def test_a_picture_is_in_flight_until_it_ends(job_store, new_picture, status, noon):
    one = AdmissionLimits(images_in_flight_per_owner=1)
    job_store.admit(first := new_picture())
    finished_at = noon if status.is_terminal else None
    job_store.update(
        first.id, lambda job: replace(job, status=status, finished_at=finished_at, attempt=1)
    )
    assert is_admitted(job_store, new_picture(), one) == status.is_terminal


# --- the month


def test_a_month_has_as_many_pictures_as_the_limit_says_and_then_none_until_the_next(
    job_store, new_picture, noon
):
    for _ in range(2):
        job = job_store.admit(new_picture(), TWO_A_MONTH).job
        job_store.update(job.id, partial(request_cancel, now=noon))  # It counts nevertheless.
    with pytest.raises(MonthlyLimitReached) as caught:
        job_store.admit(new_picture(created_at=noon), TWO_A_MONTH)
    assert caught.value.retry_after_seconds == 12 * 3600
    assert not is_admitted(job_store, new_picture(created_at=MIDNIGHT - MICROSECOND), TWO_A_MONTH)
    assert is_admitted(job_store, new_picture(created_at=MIDNIGHT), TWO_A_MONTH)
    assert [job_store.used("ada", month) for month in (JANUARY, FEBRUARY)] == [2, 1]


def test_the_month_of_another_owner_is_another(job_store, new_picture):
    for _ in range(2):
        job_store.admit(new_picture(), TWO_A_MONTH)
    assert is_admitted(job_store, new_picture(owner="bob"), TWO_A_MONTH)
    assert [job_store.used(owner, JANUARY) for owner in ("ada", "bob", "eve")] == [2, 1, 0]


def test_a_job_that_counts_against_no_month_is_not_held_up_by_one(job_store, new_picture, new_job):
    for _ in range(2):
        job_store.admit(new_picture(), TWO_A_MONTH)
    assert is_admitted(job_store, new_job(), TWO_A_MONTH)
    assert is_admitted(job_store, replace(new_picture(), charge=None), TWO_A_MONTH)
    assert job_store.used("ada", JANUARY) == 2


def test_a_refused_picture_is_not_charged(job_store, new_picture):
    limits = AdmissionLimits(images_in_flight_per_owner=1)
    for _ in range(3):
        is_admitted(job_store, new_picture(idempotency_key="once", request_hash="h"), limits)
        is_admitted(job_store, new_picture(), limits)
    with pytest.raises(IdempotencyConflict):
        job_store.admit(new_picture(idempotency_key="once"))
    assert job_store.used("ada", JANUARY) == 1


# --- entered once


def test_a_picture_is_charged_once_however_often_its_key_is_brought_in(job_store, new_picture):
    jobs = [new_picture(idempotency_key="once") for _ in range(6)]
    with ThreadPoolExecutor(2) as threads:
        admitted = list(threads.map(job_store.admit, jobs))
    assert sum(one.created for one in admitted) == 1
    assert job_store.used("ada", JANUARY) == 1
    # Also when the month has no more.
    again = job_store.admit(
        new_picture(idempotency_key="once"), AdmissionLimits(images_per_month_per_owner=1)
    )
    assert (again.created, again.job) == (False, admitted[0].job)


def test_what_is_given_back_is_entered_once_and_frees_a_place(job_store, new_picture, noon):
    first, second = (job_store.admit(new_picture(), TWO_A_MONTH).job for _ in range(2))
    for moment in (noon, noon, noon + timedelta(hours=1)):
        job_store.update(first.id, partial(given_back, at=moment))
    assert job_store.used("ada", JANUARY) == 1
    assert is_admitted(job_store, new_picture(), TWO_A_MONTH)
    assert not is_admitted(job_store, new_picture(), TWO_A_MONTH)
    # Whatever is made of the job later, its entries are not made anew.
    job_store.update(first.id, lambda job: replace(job, charge=None))
    job_store.update(first.id, lambda job: given_back(replace(job, charge=second.charge)))
    assert job_store.used("ada", JANUARY) == 2


def test_what_is_given_back_in_another_month_counts_for_its_own(job_store, new_picture):
    job_store.admit(job := new_picture())
    job_store.admit(new_picture(created_at=MIDNIGHT))
    job_store.update(job.id, partial(given_back, at=MIDNIGHT + timedelta(hours=1)))
    assert [job_store.used("ada", month) for month in (JANUARY, FEBRUARY)] == [0, 1]


def test_a_change_that_is_refused_or_gives_nothing_back_enters_nothing(job_store, new_picture):
    job_store.admit(job := new_picture())

    def break_off(stored: Job) -> Job:
        given_back(stored)
        raise LeaseHeld("no")

    with pytest.raises(LeaseHeld):
        job_store.update(job.id, break_off)
    job_store.update(job.id, lambda stored: stored)
    job_store.update(job.id, lambda stored: replace(stored, progress=50))
    assert job_store.used("ada", JANUARY) == 1


def test_a_job_that_is_charged_by_a_change_is_entered_with_it(job_store, new_job):
    job_store.admit(job := new_job())
    job_store.update(job.id, lambda stored: replace(stored, charge=Charge(month=JANUARY)))
    assert job_store.used("ada", JANUARY) == 1


def test_what_is_used_adds_up_whoever_opens_the_store(job_store, open_job_store, new_picture):
    expected: dict[tuple[str, str], int] = {}
    for number in range(12):
        owner = ("ada", "bob")[number % 2]
        moment = MIDNIGHT + timedelta(days=(-1, 1)[number % 3 == 0], seconds=number)
        job = new_picture(owner=owner, created_at=moment)
        job_store.admit(job)
        if refunded := number % 5 == 0:
            job_store.update(job.id, given_back)
        expected.setdefault((owner, job.charge.month), 0)
        expected[owner, job.charge.month] += not refunded
    assert len(expected) == 4
    with closing(open_job_store()) as other:
        assert {of: other.used(*of) for of in expected} == expected


def test_a_job_that_is_forgotten_leaves_its_entries(job_store, new_picture):
    kept, returned = new_picture(), new_picture()
    for job in (kept, returned):
        job_store.admit(job)
    job_store.update(returned.id, given_back)
    for job in (kept, returned):
        job_store.delete(job.id)
    assert job_store.used("ada", JANUARY) == 1
    job_store.admit(kept)  # Under the same name it is the same entry.
    assert job_store.used("ada", JANUARY) == 1


# --- many at once


@pytest.mark.parametrize(
    ("limits", "places"),
    [
        (AdmissionLimits(images_in_flight_per_owner=1), 1),
        (AdmissionLimits(images_in_flight_per_owner=3), 3),
        (AdmissionLimits(images_per_month_per_owner=1), 1),
        (AdmissionLimits(images_per_month_per_owner=3, images_in_flight_per_owner=9), 3),
    ],
    ids=["1 in flight", "3 in flight", "1 a month", "both"],
)
def test_of_two_who_bring_pictures_at_once_as_many_come_in_as_the_limit_says(
    job_store, open_job_store, new_picture, limits, places
):
    halves = [[new_picture() for _ in range(4)] for _ in range(2)]
    with closing(open_job_store()) as other, ThreadPoolExecutor(2) as threads:

        def bring_in(store: JobStore, jobs: list[Job]) -> int:
            return sum(is_admitted(store, job, limits) for job in jobs)

        assert sum(threads.map(bring_in, (job_store, other), halves)) == places
    assert sum(job_store.counts().values()) == places
    assert job_store.used("ada", JANUARY) == places


def test_of_two_who_give_the_same_picture_back_at_once_one_does(
    job_store, open_job_store, new_picture
):
    with closing(open_job_store()) as other, ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            job_store.admit(job := new_picture())
            moments = (MIDNIGHT, MIDNIGHT + timedelta(seconds=1))
            updates = [
                threads.submit(store.update, job.id, partial(given_back, at=moment))
                for store, moment in zip((job_store, other), moments, strict=True)
            ]
            assert {update.result().charge.given_back_at for update in updates} == set(moments)
    assert job_store.used("ada", JANUARY) == 0
