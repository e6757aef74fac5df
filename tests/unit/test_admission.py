"""Who may still come in, and what a refused caller is told."""

import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.admission import (
    NO_LIMITS,
    PACE_WINDOW,
    RATE_WINDOW,
    AdmissionLimits,
    Standing,
    check_limits,
    configured,
    wait_seconds,
)
from shared.config_sections import Limits
from shared.errors import (
    MonthlyLimitReached,
    QueueFull,
    RateExceeded,
    TooManyInFlight,
    TooManyJobs,
)
from shared.job import Job
from tests.jobs import NOON, plain_job

CROWD = Standing(
    queued_of_model=10**6,
    queued_of_owner=10**6,
    in_flight_of_owner=10**6,
    submitted_at=(NOON,) * 1000,
    images_in_flight_of_owner=10**6,
    images_of_month=10**6,
)
SECONDS_UNTIL_FEBRUARY = 12 * 3600  # from noon of its last day
EVERY_LIMIT = AdmissionLimits(
    queued_per_model=1000,
    queued_per_owner=500,
    in_flight_per_owner=3,
    submissions_per_minute_per_owner=5,
)

counts = st.integers(0, 10**6)
places = st.integers(1, 10**6)
limits_of_any_size = st.builds(
    AdmissionLimits,
    **{field.name: st.none() | st.integers(1, 10**6) for field in fields(AdmissionLimits)},
)
moments = st.floats(0, 59.999).map(lambda seconds: NOON - timedelta(seconds=seconds))
standings = st.builds(
    Standing,
    queued_of_model=counts,
    queued_of_owner=counts,
    in_flight_of_owner=counts,
    submitted_at=st.lists(moments, max_size=9).map(lambda found: tuple(sorted(found)[::-1])),
    images_in_flight_of_owner=counts,
    images_of_month=counts,
)


@pytest.fixture
def job() -> Job:
    return plain_job()


def nobody_asks(*_: object, **__: object) -> int:
    raise AssertionError("the pace is measured for nobody who comes in")


def ended(*, of_model: int = 0, of_owner: int = 0) -> Callable[..., int]:
    def ended_since(since: datetime, *, model: str | None = None, owner: str | None = None) -> int:
        assert since == NOON - PACE_WINDOW
        assert (model, owner) in {("wan2.1-demo", None), (None, "ada")}
        return of_model if model else of_owner

    return ended_since


def refusal(
    limits: AdmissionLimits, standing: Standing, ended_since: Callable[..., int]
) -> TooManyJobs | None:
    try:
        check_limits(plain_job(), limits, standing, ended_since=ended_since)
    except TooManyJobs as error:
        return error
    return None


# --- who comes in


def test_without_limits_everybody_comes_in(job):
    check_limits(job, NO_LIMITS, CROWD, ended_since=nobody_asks)


@pytest.mark.parametrize(
    ("limit", "counted", "kind"),
    [
        ("queued_per_model", "queued_of_model", QueueFull),
        ("queued_per_owner", "queued_of_owner", QueueFull),
        ("in_flight_per_owner", "in_flight_of_owner", TooManyInFlight),
        ("images_in_flight_per_owner", "images_in_flight_of_owner", TooManyInFlight),
        ("images_per_month_per_owner", "images_of_month", MonthlyLimitReached),
    ],
)
def test_the_last_place_is_given_and_no_other(job, limit, counted, kind):
    limits = AdmissionLimits(**{limit: 3})
    check_limits(job, limits, Standing(**{counted: 2}), ended_since=nobody_asks)
    for there in (3, 4):
        assert type(refusal(limits, Standing(**{counted: there}), ended())) is kind


def test_the_last_submission_of_a_minute_is_taken_and_no_other(job):
    limits = AdmissionLimits(submissions_per_minute_per_owner=3)
    check_limits(job, limits, Standing(submitted_at=(NOON,) * 2), ended_since=nobody_asks)
    assert type(refusal(limits, Standing(submitted_at=(NOON,) * 3), ended())) is RateExceeded


@given(limits_of_any_size, standings, counts, counts)
def test_a_refusal_is_what_a_reached_limit_and_nothing_else_makes(limits, standing, model, owner):
    def reached(limit: int | None, there: int) -> bool:
        return there >= (inf if limit is None else limit)

    month_is_used = reached(limits.images_per_month_per_owner, standing.images_of_month)
    error = refusal(limits, standing, ended(of_model=model, of_owner=owner))
    assert (error is not None) == any(
        (
            reached(limits.queued_per_model, standing.queued_of_model),
            reached(limits.queued_per_owner, standing.queued_of_owner),
            reached(limits.in_flight_per_owner, standing.in_flight_of_owner),
            reached(limits.submissions_per_minute_per_owner, len(standing.submitted_at)),
            reached(limits.images_in_flight_per_owner, standing.images_in_flight_of_owner),
            month_is_used,
        )
    )
    if error is not None:
        assert isinstance(error.retry_after_seconds, int)
        assert (error.retry_after_seconds == SECONDS_UNTIL_FEBRUARY) == month_is_used
        assert month_is_used or 1 <= error.retry_after_seconds <= 3600


def test_a_plan_without_pictures_lets_none_in(job):
    none = AdmissionLimits(images_per_month_per_owner=0)
    assert type(refusal(none, Standing(), nobody_asks)) is MonthlyLimitReached


# --- what a refused caller is told


@pytest.mark.parametrize(
    "limit",
    [field.name for field in fields(AdmissionLimits) if "per_month" not in field.name],
)
def test_a_refusal_says_which_number_is_reached_and_when_to_try_again(limit):
    only = AdmissionLimits(**{limit: 717})
    error = refusal(only, CROWD, ended())
    assert re.fullmatch(r"[A-Z].* 717 .*\. Try again in \d+ s\.", error.message)
    assert f"in {error.retry_after_seconds} s" in error.message


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (NOON, SECONDS_UNTIL_FEBRUARY),
        (datetime(2026, 12, 1, tzinfo=UTC), 31 * 24 * 3600),
        (datetime(2026, 12, 31, 23, 59, 59, 1, tzinfo=UTC), 1),
    ],
)
def test_whose_month_is_used_is_told_of_the_plan_and_to_come_back_with_the_next_month(now, seconds):
    limits = AdmissionLimits(images_per_month_per_owner=20)
    with pytest.raises(MonthlyLimitReached, match="At most 20 images a month") as caught:
        check_limits(
            plain_job(created_at=now), limits, Standing(images_of_month=20), ended_since=nobody_asks
        )
    assert caught.value.retry_after_seconds == seconds


def test_the_wait_for_a_pictures_place_is_measured_by_the_owners_own_jobs():
    limits = AdmissionLimits(images_in_flight_per_owner=2)
    error = refusal(limits, Standing(images_in_flight_of_owner=3), ended(of_owner=3, of_model=100))
    assert error.retry_after_seconds == 400


def test_of_several_limits_the_one_that_takes_longest_is_told():
    standing = Standing(queued_of_model=1000, in_flight_of_owner=3, submitted_at=(NOON,) * 5)
    # One of the owner's jobs ends in 100 s, one of the model's in 6 s; the minute is over in 60 s.
    slow_owner = refusal(EVERY_LIMIT, standing, ended(of_model=100, of_owner=6))
    assert (slow_owner.code, slow_owner.retry_after_seconds) == ("too_many_in_flight", 100)
    fast_owner = refusal(EVERY_LIMIT, standing, ended(of_model=100, of_owner=100))
    assert (fast_owner.code, fast_owner.retry_after_seconds) == ("rate_exceeded", 60)
    slow_model = refusal(EVERY_LIMIT, standing, ended(of_model=1, of_owner=100))
    assert (slow_model.code, slow_model.retry_after_seconds) == ("queue_full", 600)


@given(st.lists(moments, min_size=1, max_size=9), st.integers(1, 9))
def test_after_the_wait_as_few_as_the_limit_allows_are_left_in_the_minute(submitted, limit):
    newest_first = tuple(sorted(submitted, reverse=True))
    limits = AdmissionLimits(submissions_per_minute_per_owner=limit)
    error = refusal(limits, Standing(submitted_at=newest_first), nobody_asks)

    def left_after(seconds: float) -> int:
        window_begins = NOON + timedelta(seconds=seconds) - RATE_WINDOW
        return sum(moment > window_begins for moment in newest_first)

    if error is None:
        assert left_after(0) < limit
    else:
        assert left_after(error.retry_after_seconds) < limit <= left_after(0)
        assert left_after(error.retry_after_seconds - 1) >= limit  # Not a second too long.


@given(places, st.integers(1, 10**6))
def test_the_wait_is_what_the_pace_needs_rounded_up(needed, done):
    wait = wait_seconds(needed, ended=done)
    pace = done / PACE_WINDOW.total_seconds()
    if 1 < wait < 3600:
        assert (wait - 1) * pace < needed + 1e-6
        assert wait * pace >= needed - 1e-6
    else:
        assert (wait == 1) == (needed <= pace)
        assert wait in {1, 3600}


@given(places, places, counts, counts)
def test_the_wait_never_shrinks_with_more_in_front_nor_grows_with_a_better_pace(a, b, slow, fast):
    fewer, more = sorted((a, b))
    slower, faster = sorted((slow + 1, fast + 1))
    assert wait_seconds(fewer, ended=slower) <= wait_seconds(more, ended=slower)
    assert wait_seconds(more, ended=faster) <= wait_seconds(more, ended=slower)


@given(places)
def test_without_a_pace_nobody_pretends_to_know(needed):
    assert wait_seconds(needed, ended=0) == 30


def test_the_configured_limits_are_those_of_the_file():
    written = Limits(
        queued_per_model=1,
        queued_per_owner=2,
        in_flight_per_owner=3,
        submissions_per_minute_per_owner=4,
    )
    limits = configured(written)
    assert limits == AdmissionLimits(
        queued_per_model=1,
        queued_per_owner=2,
        in_flight_per_owner=3,
        submissions_per_minute_per_owner=4,
    )
    assert configured(written.model_copy(update={"queued_per_owner": None})) == replace(
        limits, queued_per_owner=None
    )
