"""Who may still come in: how many jobs may wait, be in flight and be submitted, and the wait if not.

The store counts (``Standing``), the rule here decides: every adapter refuses alike, and tells a
refused caller when it is worth coming back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from typing import Protocol

from shared.config_sections import Limits
from shared.errors import (
    MonthlyLimitReached,
    QueueFull,
    RateExceeded,
    TooManyInFlight,
    TooManyJobs,
)
from shared.job import Job
from shared.ledger import month_after

RATE_WINDOW = timedelta(minutes=1)
# How long back the pace is measured by which jobs make room.
PACE_WINDOW = timedelta(minutes=10)
# The wait where no job has ended in that time: nobody can know it. Long enough for a worker that is
# just starting, short enough that a caller does not come too late for what it frees.
UNKNOWN_WAIT_SECONDS = 30
LONGEST_WAIT_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class AdmissionLimits:
    """How many jobs there may be; None: as many as come."""

    queued_per_model: int | None = None
    queued_per_owner: int | None = None
    in_flight_per_owner: int | None = None  # accepted and not ended: waiting ones are in flight too
    submissions_per_minute_per_owner: int | None = None
    images_in_flight_per_owner: int | None = None  # of jobs that ask for a picture
    images_per_month_per_owner: int | None = None  # as the ledger has them


NO_LIMITS = AdmissionLimits()


def configured(limits: Limits) -> AdmissionLimits:
    return AdmissionLimits(
        queued_per_model=limits.queued_per_model,
        queued_per_owner=limits.queued_per_owner,
        in_flight_per_owner=limits.in_flight_per_owner,
        submissions_per_minute_per_owner=limits.submissions_per_minute_per_owner,
    )


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is there when a new job asks to come in. What no limit asks for is not counted."""

    queued_of_model: int = 0
    queued_of_owner: int = 0
    in_flight_of_owner: int = 0
    # The owner's submissions within ``RATE_WINDOW``, newest first; no more of them than the limit.
    submitted_at: tuple[datetime, ...] = ()
    images_in_flight_of_owner: int = 0
    # In the month that the job counts against: charged, less given back.
    images_of_month: int = 0


class CountEnded(Protocol):
    """``JobStore.ended_since``."""

    def __call__(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int: ...


def check_limits(
    job: Job, limits: AdmissionLimits, standing: Standing, *, ended_since: CountEnded
) -> None:
    """Raises ``TooManyJobs`` when the job would be one too many, as of the moment it was made.

    Where several limits are reached, it is the one that takes longest: to come back earlier would
    only be refused by that one. The pace is measured only then.
    """
    since = job.created_at - PACE_WINDOW
    refusals = _refusals(
        limits,
        standing,
        now=job.created_at,
        ended_of_model=partial(ended_since, since, model=job.request.model),
        ended_of_owner=partial(ended_since, since, owner=job.owner),
    )
    longest = max(refusals, key=lambda refusal: refusal.retry_after_seconds, default=None)
    if longest is not None:
        raise longest


def wait_seconds(places: int, *, ended: int) -> int:
    """How long until so many jobs have made room, if ``ended`` did so within ``PACE_WINDOW``."""
    if ended == 0:
        return UNKNOWN_WAIT_SECONDS
    return _whole_seconds(places * PACE_WINDOW / ended)


def _refusals(
    limits: AdmissionLimits,
    standing: Standing,
    *,
    now: datetime,
    ended_of_model: Callable[[], int],
    ended_of_owner: Callable[[], int],
) -> Iterator[TooManyJobs]:
    if places := _lacking(limits.queued_per_model, standing.queued_of_model):
        yield QueueFull(
            f"The queue is full: at most {limits.queued_per_model} jobs may wait for this model.",
            retry_after_seconds=wait_seconds(places, ended=ended_of_model()),
        )
    if places := _lacking(limits.queued_per_owner, standing.queued_of_owner):
        yield QueueFull(
            f"At most {limits.queued_per_owner} of your jobs may wait; let one start, or cancel one.",
            retry_after_seconds=wait_seconds(places, ended=ended_of_owner()),
        )
    if places := _lacking(limits.in_flight_per_owner, standing.in_flight_of_owner):
        yield TooManyInFlight(
            f"At most {limits.in_flight_per_owner} of your jobs may be in flight; "
            "let one end, or cancel one.",
            retry_after_seconds=wait_seconds(places, ended=ended_of_owner()),
        )
    if places := _lacking(limits.images_in_flight_per_owner, standing.images_in_flight_of_owner):
        yield TooManyInFlight(
            f"At most {limits.images_in_flight_per_owner} of your images may be in work; "
            "let one end, or cancel one.",
            retry_after_seconds=wait_seconds(places, ended=ended_of_owner()),
        )
    limit = limits.images_per_month_per_owner
    if limit is not None and standing.images_of_month >= limit:
        wait = month_after(now) - now
        yield MonthlyLimitReached(limit, retry_after_seconds=ceil(wait.total_seconds()))
    limit = limits.submissions_per_minute_per_owner
    if limit is not None and len(standing.submitted_at) >= limit:
        # Once this one has left the window, one fewer than the limit is in it.
        leaving = standing.submitted_at[limit - 1]
        yield RateExceeded(
            f"At most {limit} of your jobs are accepted in a minute.",
            retry_after_seconds=_whole_seconds(leaving + RATE_WINDOW - now),
        )


def _lacking(limit: int | None, there: int) -> int:
    """How many jobs must make room before one more is within the limit."""
    return 0 if limit is None else max(there - limit + 1, 0)


def _whole_seconds(wait: timedelta) -> int:
    """Rounded up, as Retry-After is given: who comes back then does not come too early."""
    return min(max(ceil(wait.total_seconds()), 1), LONGEST_WAIT_SECONDS)
