"""What a caller may expect of a job: from what is measured, or not at all."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.admission import PACE_WINDOW
from shared.estimates import cost_usd, queue_position, seconds_left
from shared.job import JobStatus, Lease
from shared.prices import L4_PRICE
from tests.jobs import NOON, SUMMARY, plain_job

LEASE = Lease(token="t", worker="w", claimed_at=NOON, expires_at=NOON + timedelta(seconds=30))
ON_AN_L4 = replace(SUMMARY, device=L4_PRICE.device, generation_seconds=100.0)


def running(progress, **fields):
    status = JobStatus.PROGRESS if progress else JobStatus.STARTED
    return plain_job(**{"status": status, "progress": progress, "lease": LEASE} | fields)


def left(job, *, after_seconds=0.0, position=None, ended=0):
    now = NOON + timedelta(seconds=after_seconds)
    return seconds_left(job, position=position, ended=ended, now=now)


# --- the place in the queue


def test_who_has_nobody_before_is_next():
    assert queue_position(plain_job(), before=0) == 1
    assert queue_position(plain_job(), before=17) == 18


@pytest.mark.parametrize("status", [status for status in JobStatus if status != "queued"])
def test_who_does_not_wait_has_no_place(status):
    assert queue_position(plain_job(status=status), before=3) is None


# --- the time that is left


@pytest.mark.parametrize(("position", "ended", "seconds"), [(1, 10, 60), (4, 10, 240), (1, 7, 86)])
def test_a_waiting_job_is_done_at_the_pace_at_which_others_were(position, ended, seconds):
    assert timedelta(seconds=600) == PACE_WINDOW
    assert left(plain_job(), position=position, ended=ended) == seconds


def test_where_no_job_has_ended_nobody_knows_when_a_waiting_one_will():
    assert left(plain_job(), position=1, ended=0) is None


@pytest.mark.parametrize(
    ("progress", "elapsed", "seconds"), [(5, 10, 190), (50, 10, 10), (99, 9.9, 1), (75, 10, 4)]
)
def test_a_running_job_is_done_at_its_own_pace(progress, elapsed, seconds):
    assert left(running(progress), after_seconds=elapsed, ended=9) == seconds


@pytest.mark.parametrize("progress", [0, 1, 4])
def test_a_running_job_that_has_done_too_little_tells_nothing(progress):
    assert left(running(progress), after_seconds=100, ended=9) is None


def test_the_time_of_an_earlier_attempt_is_not_this_ones():
    earlier = NOON - timedelta(hours=1)
    assert left(running(50, started_at=earlier), after_seconds=10) == 10


def test_a_clock_that_goes_backwards_makes_no_negative_time():
    assert left(running(50), after_seconds=-100) == 0


@pytest.mark.parametrize("status", [status for status in JobStatus if status.is_terminal])
def test_what_has_ended_has_no_time_left(status):
    assert left(plain_job(status=status, progress=100), after_seconds=9, ended=9) is None


# --- what it has cost


def test_a_finished_render_costs_its_seconds_at_the_price_of_its_device():
    job = plain_job(status=JobStatus.FINISHED, summary=ON_AN_L4)
    assert cost_usd(job) == pytest.approx(100 * L4_PRICE.usd_a_second)


def test_where_nobody_has_noted_a_price_there_is_no_cost():
    assert cost_usd(plain_job(status=JobStatus.FINISHED, summary=SUMMARY)) is None


@pytest.mark.parametrize("status", [status for status in JobStatus if status != "finished"])
def test_only_what_is_finished_has_cost_something_that_is_known(status):
    assert cost_usd(plain_job(status=status, summary=ON_AN_L4)) is None
    assert cost_usd(plain_job(status=status)) is None
