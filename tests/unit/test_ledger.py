"""The ledger of usage: which entries a job makes, and which month it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.job import Job
from shared.ledger import LedgerEntry, entries_made, entries_of, month_after, month_of
from tests.jobs import NOON, picture_job, plain_job

moments = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone itself
    datetime(2100, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone itself
    timezones=st.timezones(),
)

DEBIT = LedgerEntry(
    id="job_1-debit",
    owner="ada",
    month="2026-01",
    amount=1,
    at=NOON,
    job_id="job_1",
    idempotency_key="once",
)


@pytest.fixture
def charged() -> Job:
    return picture_job(idempotency_key="once")


def given_back(job: Job, at: datetime) -> Job:
    return replace(job, charge=replace(job.charge, given_back_at=at))


# --- entries


def test_a_job_that_counts_against_no_month_has_no_entries():
    assert entries_of(plain_job()) == ()


def test_a_charged_job_has_one_entry(charged):
    assert entries_of(charged) == (DEBIT,)


def test_what_is_given_back_is_taken_from_the_month_it_was_charged_to(charged):
    later = NOON + timedelta(days=40)
    refund = replace(DEBIT, id="job_1-refund", amount=-1, at=later)
    assert entries_of(given_back(charged, later)) == (DEBIT, refund)


def test_a_change_makes_the_entries_that_were_not_there(charged):
    back, later = (given_back(charged, NOON + timedelta(hours=hours)) for hours in (0, 1))
    debit, refund = entries_of(back)
    assert entries_made(charged, replace(charged, progress=50)) == ()
    assert entries_made(plain_job(), charged) == (debit,)
    assert entries_made(plain_job(), back) == (debit, refund)
    assert entries_made(charged, back) == (refund,)
    assert entries_made(back, later) == ()  # At another moment it is still the same entry.
    assert entries_made(back, plain_job()) == ()


# --- months


@pytest.mark.parametrize(
    ("moment", "month", "over_at"),
    [
        (NOON, "2026-01", datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), "2026-02", datetime(2026, 3, 1, tzinfo=UTC)),
        (
            datetime(2026, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            "2026-12",
            datetime(2027, 1, 1, tzinfo=UTC),
        ),
        (
            # Already the new year there, not yet in UTC.
            datetime(2027, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
            "2026-12",
            datetime(2027, 1, 1, tzinfo=UTC),
        ),
    ],
)
def test_a_month_is_one_of_utc(moment, month, over_at):
    assert month_of(moment) == month
    assert month_after(moment) == over_at


@given(moments)
def test_a_month_is_over_when_the_next_one_begins_and_not_a_moment_earlier(moment):
    over_at = month_after(moment)
    assert over_at > moment
    assert month_of(over_at - timedelta(microseconds=1)) == month_of(moment)
    assert month_of(over_at) > month_of(moment)
