"""What goes wrong and when: drawn from one seed, so that a session can be run again.

The plan repeats itself exactly; what the processes make of it does not, they race as they always do.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

# Between two faults; the one before is mostly over.
_PAUSE_SECONDS_MEAN = 1.5
# The first part of a session is calm: what it shows is compared with.
_CALM_SHARE = 0.15


class Point(StrEnum):
    """Where a process can be cut off: between two calls of its ports."""

    ADMITTED = "admitted"  # the job is stored, its message is not sent
    PUBLISHED = "published"  # the message is sent, the job does not know
    CLAIMED = "claimed"  # the lease is stored, nothing else has happened
    REPORTED = "reported"  # in mid-render
    UPLOADING = "uploading"  # one file is stored, others are not
    UPLOADED = "uploaded"  # all files are stored, the job is not finished
    COMPLETED = "completed"  # the job is finished, its message is not acknowledged
    CANCELING = "canceling"  # the render has stopped, the job is not yet canceled
    FAILING = "failing"  # the attempt has failed, the job does not know
    REQUEUED = "requeued"  # a silent worker's job is taken back, its message is not sent


class Action(StrEnum):
    """What a process does to itself when it reaches an armed point."""

    KILL = "kill"
    STOP = "stop"  # until it is continued, long after its lease
    TERMINATE = "terminate"  # as Cloud Run or `docker stop` asks it to


class Kind(StrEnum):
    TRIP = "trip"  # arm a point
    KILL = "kill"  # at any moment
    STOP = "stop"
    TERMINATE = "terminate"
    KILL_RENDER = "kill the render process"
    STOP_RENDER = "stop the render process"
    DUPLICATE = "duplicate messages"  # also of jobs long ended: duplicates that come late
    BUSY = "database busy"
    FULL_DISK = "disk full"
    BUCKET_FAILS = "bucket fails"
    BUCKET_DROPS = "bucket drops an answer"  # what was uploaded is there, and nobody hears of it


API = "api"
WORKERS = ("worker-a", "worker-b")

_POINTS_OF_THE_API = (Point.ADMITTED, Point.PUBLISHED)
_ANYWHERE = (
    Kind.KILL,
    Kind.STOP,
    Kind.TERMINATE,
    Kind.KILL_RENDER,
    Kind.STOP_RENDER,
    Kind.DUPLICATE,
    Kind.FULL_DISK,
)
_ON_ONE_MACHINE = (*_ANYWHERE, Kind.BUSY)
_IN_THE_CLOUD = (*_ANYWHERE, Kind.BUCKET_FAILS, Kind.BUCKET_DROPS)
_ONLY_WORKERS = (Kind.KILL_RENDER, Kind.STOP_RENDER, Kind.FULL_DISK)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    at_seconds: float  # after the session's start
    kind: Kind
    target: str  # a process of ours: "api", "worker-a"
    seconds: float  # how long it lasts
    point: Point | None = None
    action: Action | None = None

    def __str__(self) -> str:
        if self.point is not None:
            return f"{self.action} {self.target} when {self.point}"
        return f"{self.kind}: {self.target}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One session's worth of misfortune."""

    faults: Sequence[Fault]
    clock_skew_seconds: dict[str, float]  # of each worker's clock
    calm_seconds: float
    seconds: float


def draw_plan(seed: int, *, seconds: float, lease_seconds: float, in_cloud: bool) -> Plan:
    """Every named point is armed with every action before one is armed twice."""
    dice = random.Random(seed)
    calm_seconds = seconds * _CALM_SHARE
    # What the lease forgives: a worker whose clock is further ahead takes the jobs of the living.
    forgiven = lease_seconds / 4
    skew = {worker: round(dice.uniform(-forgiven, forgiven), 2) for worker in WORKERS}
    trips = _trips(dice)
    kinds = _IN_THE_CLOUD if in_cloud else _ON_ONE_MACHINE
    faults: list[Fault] = []
    now = calm_seconds
    while True:
        now += dice.expovariate(1 / _PAUSE_SECONDS_MEAN)
        if now >= seconds:
            return Plan(
                faults=faults, clock_skew_seconds=skew, calm_seconds=calm_seconds, seconds=seconds
            )
        outlast_the_lease = lease_seconds * dice.uniform(1.1, 2.5)
        if dice.choice((True, False)):  # half at named points, half at any moment
            point, action = next(trips)
            target = API if point in _POINTS_OF_THE_API else dice.choice(WORKERS)
            faults.append(
                Fault(
                    at_seconds=now,
                    kind=Kind.TRIP,
                    target=target,
                    seconds=outlast_the_lease,
                    point=point,
                    action=action,
                )
            )
        else:
            kind = dice.choice(kinds)
            targets = WORKERS if kind in _ONLY_WORKERS else (API, *WORKERS)
            short = kind in (Kind.BUSY, Kind.FULL_DISK)
            faults.append(
                Fault(
                    at_seconds=now,
                    kind=kind,
                    target=dice.choice(targets),
                    seconds=dice.uniform(0.5, 3.0) if short else outlast_the_lease,
                )
            )


def _trips(dice: random.Random) -> Iterator[tuple[Point, Action]]:
    while True:
        deck = list(product(Point, Action))
        dice.shuffle(deck)
        yield from deck
