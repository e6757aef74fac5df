"""One installation under one load, from the first job to the last end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scale.clock import Clock
from scale.dice import Dice
from scale.fleet import Fleet, Seconds, Service
from scale.jobs import Job, Jobs, Rules
from scale.pool import Pool, WorkerPool
from scale.push import Push, Subscription
from scale.worker import WorkerRules

_STEP_SECONDS = 60.0
# No job is older: three attempts, each after all deliveries of a message, end long before.
_STUCK_SECONDS = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """Jobs are pushed to a service that scales by itself."""

    rules: Rules
    subscription: Subscription
    service: Service
    worker: WorkerRules


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """Jobs are pulled by a pool of a fixed size."""

    rules: Rules
    pool: WorkerPool


@dataclass(frozen=True, kw_only=True)
class Load:
    """When jobs come, in order, and what each takes; seconds."""

    arrivals: Sequence[float]
    device_seconds: Sequence[float]
    tail_seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one run. Waits are from acceptance to the first claim, of the jobs that had one."""

    submitted: int
    accepted: int
    refused: int
    ends: Mapping[str, int]  # "finished", and why others failed
    waits: Sequence[float]
    attempts: int
    published: int
    deliveries: int
    failed_deliveries: int
    dead_letters: int
    most_in_flight: int
    most_queued: int
    most_requests: int  # out at the same time, of a push subscription
    instance_seconds: float
    starting_seconds: float
    busy_seconds: float
    starts: int
    most_instances: int
    span_seconds: float  # from the first moment to the last end

    @property
    def finished(self) -> int:
        return self.ends.get("finished", 0)

    @property
    def idle_seconds(self) -> float:
        return self.instance_seconds - self.starting_seconds - self.busy_seconds

    @property
    def mean_instances(self) -> float:
        return self.instance_seconds / self.span_seconds


def simulate(load: Load, installation: Pushed | Pulled, *, seed: int) -> Outcome:
    """The same load, installation and seed have the same outcome."""
    clock = Clock()
    jobs = Jobs(clock, installation.rules)
    if isinstance(installation, Pulled):
        return _pulled(load, installation.pool, clock, jobs, Dice(seed))
    return _pushed(load, installation, clock, jobs, Dice(seed))


def _pushed(load: Load, with_: Pushed, clock: Clock, jobs: Jobs, dice: Dice) -> Outcome:
    fleet = Fleet(clock, jobs, with_.service, with_.worker, dice)
    push = Push(clock, with_.subscription, dice, request=fleet.request, bury=jobs.bury)
    fleet.push, jobs.publish = push, push.publish
    fleet.open()
    _run(load, clock, jobs)
    return _outcome(
        load,
        jobs,
        fleet.close(),
        deliveries=push.deliveries,
        failed_deliveries=push.failures,
        dead_letters=push.dead,
        most_requests=push.most_out,
        starts=fleet.starts,
        most_instances=fleet.most_instances,
    )


def _pulled(load: Load, of: WorkerPool, clock: Clock, jobs: Jobs, dice: Dice) -> Outcome:
    pool = Pool(clock, jobs, of, dice)
    jobs.publish = pool.publish
    pool.open()
    _run(load, clock, jobs)
    return _outcome(
        load,
        jobs,
        pool.close(),
        deliveries=pool.deliveries,
        failed_deliveries=0,
        dead_letters=0,
        most_requests=0,
        starts=of.instances,
        most_instances=of.instances,
    )


def _run(load: Load, clock: Clock, jobs: Jobs) -> None:
    """Until every job has ended."""

    def arrive(number: int) -> None:
        if number + 1 < len(load.arrivals):
            clock.at(load.arrivals[number + 1], arrive, number + 1)
        jobs.submit(
            Job(
                number,
                clock.now,
                device_seconds=load.device_seconds[number],
                tail_seconds=load.tail_seconds,
            )
        )

    if not load.arrivals:
        return
    clock.at(load.arrivals[0], arrive, 0)
    clock.run(until=load.arrivals[-1])
    while jobs.are_in_flight:
        clock.run(until=clock.now + _STEP_SECONDS)
        assert clock.now < load.arrivals[-1] + _STUCK_SECONDS, "a job is stuck"


def _outcome(
    load: Load,
    jobs: Jobs,
    seconds: Seconds,
    *,
    deliveries: int,
    failed_deliveries: int,
    dead_letters: int,
    most_requests: int,
    starts: int,
    most_instances: int,
) -> Outcome:
    return Outcome(
        submitted=len(load.arrivals),
        accepted=jobs.accepted,
        refused=jobs.refused,
        ends=dict(jobs.ends),
        waits=jobs.waits,
        attempts=jobs.attempts,
        published=jobs.published,
        deliveries=deliveries,
        failed_deliveries=failed_deliveries,
        dead_letters=dead_letters,
        most_in_flight=jobs.most_in_flight,
        most_queued=jobs.most_queued,
        most_requests=most_requests,
        instance_seconds=seconds.total,
        starting_seconds=seconds.starting,
        busy_seconds=seconds.busy,
        starts=starts,
        most_instances=most_instances,
        span_seconds=jobs.last_end,
    )
