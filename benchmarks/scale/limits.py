"""What gives way first: each limit as the jobs an hour at which it is reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from scale import known, operations, prices
from scale.operations import Operations, Render
from shared.sweep import _FILES_AT_ONCE

_HOUR = 3600.0
_MINUTE = 60.0
_VISITS = 2  # of the sweep to an ended job: for its files, then for itself
_SEATS_SHARE = 0.75  # services/api/waiting.py seats_for
_MONTH_HOURS = 730.0
_RAMP_MINUTES = 5.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """``hard``: beyond it jobs wait without end, are refused, or are not looked after."""

    name: str
    jobs_an_hour: float
    hard: bool
    then: str  # what to change


def limits_of(render: Render) -> Sequence[Limit]:
    """Of an installation as terraform makes it, the lowest first."""
    found = [
        *_of_gpus(render),
        *_of_the_sweep(),
        *_of_the_api(render),
        *_of_google(render),
    ]
    return sorted(found, key=lambda limit: limit.jobs_an_hour)


def reached(limits: Sequence[Limit], jobs_an_hour: float) -> Sequence[Limit]:
    return [limit for limit in limits if limit.jobs_an_hour < jobs_an_hour]


def hours_to_drain(render: Render) -> float:
    """A full queue: longer than a message lives, and the last of it would fail before its turn."""
    return known.QUEUED_PER_GPU.value * render.seconds / _HOUR


def ramp_minutes(render: Render, jobs_an_hour: float) -> float:
    """How long Firestore wants traffic to take, from its first operations to this load."""
    job = _job(render)
    wanted = jobs_an_hour / _HOUR * (job.reads + job.writes) / known.RAMP_OPERATIONS.value
    return 0.0 if wanted <= 1 else _RAMP_MINUTES * log(wanted) / log(known.RAMP_GROWTH.value)


def sweep_usd_a_month() -> float:
    """Of sweeps that find nothing, for the API's machine while they wait for dead letters."""
    seconds = operations.sweep().request_seconds * _MONTH_HOURS * _HOUR / known.SWEEP_EVERY.value
    return prices.CPU.of(seconds) + prices.MEMORY.of(seconds)


def _job(render: Render) -> Operations:
    return sum(operations.steps_of(render).values(), Operations())


def _of_gpus(render: Render) -> list[Limit]:
    each = _HOUR / render.seconds
    return [
        Limit(
            name="one GPU: gpu_worker.max_instances",
            jobs_an_hour=known.MAX_INSTANCES.value * each,
            hard=True,
            then="raise it up to the quota",
        ),
        Limit(
            name="three GPUs: a new project's quota of a region",
            jobs_an_hour=known.L4_QUOTA.value * each,
            hard=True,
            then="ask for more, or use another region, too",
        ),
        Limit(
            name=f"{known.MAX_INSTANCES_ALLOWED.value:,.0f} GPUs: the most terraform/variables.tf allows",
            jobs_an_hour=known.MAX_INSTANCES_ALLOWED.value * each,
            hard=True,
            then="an installation a region, callers divided among them",
        ),
    ]


def _of_the_sweep() -> list[Limit]:
    a_visit = operations.CALLS_OF_A_VISIT * known.CALL_SECONDS.value
    visits = _MINUTE / a_visit * _FILES_AT_ONCE * _HOUR / known.SWEEP_EVERY.value
    return [
        Limit(
            name="files removed by one sweep in its minute",
            jobs_an_hour=visits / _VISITS,
            hard=False,
            then="the bucket's own lifecycle rule for files: they stay longer than they should",
        ),
    ]


def _of_the_api(render: Render) -> list[Limit]:
    threads = known.API_MAX_INSTANCES.value * known.API_THREADS.value
    return [
        Limit(
            name="seats for callers who follow their job: all do",
            jobs_an_hour=threads * _SEATS_SHARE * _HOUR / render.seconds,
            hard=False,
            then="api.max_instances, or have them poll, or be told by a webhook",
        ),
        Limit(
            name="the API's threads: all callers poll",
            jobs_an_hour=threads * _HOUR / _job(render).request_seconds,
            hard=True,
            then="api.max_instances",
        ),
    ]


def _of_google(render: Render) -> list[Limit]:
    job = _job(render)
    return [
        Limit(
            name="Firestore's first 500 operations a second",
            jobs_an_hour=known.RAMP_OPERATIONS.value * _HOUR / (job.reads + job.writes),
            hard=False,
            then="grow by half every five minutes, not faster; look at jobs less often than every 0.4 s",
        ),
        Limit(
            name="500 writes a second to `jobs`, whose created_at, due_at and lease are indexed and grow",
            jobs_an_hour=known.HOT_INDEX_WRITES.value * _HOUR / job.job_writes,
            hard=True,
            then="progress and leases in a document of their own without indexes; a shard in front of "
            "due_at and created_at",
        ),
        Limit(
            name="3,000 pushes at the same time",
            jobs_an_hour=known.WINDOW_AT_MOST.value * _HOUR / render.seconds,
            hard=True,
            then="pools that pull, or a subscription a region",
        ),
    ]
