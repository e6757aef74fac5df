"""Jobs, leases and the sweep: the rules of ``shared/transitions.py`` and ``shared/sweep.py``, without a store."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from scale.clock import Clock


class Status(Enum):
    QUEUED = "queued"
    WORKING = "working"
    FINISHED = "finished"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Of the configuration and of the code; seconds."""

    queued_at_most: int
    max_attempts: int
    lease_seconds: float
    sweep_seconds: float
    sweep_jobs: int  # a sweep
    sweep_dead_letters: int  # a sweep
    republish_seconds: float  # after which a published job nobody has fetched gets a second message
    requeue_grace_seconds: float  # for which a job that went back waits for its old message


class Job:
    """Changes in place, unlike the real one: a million of them are to pass in a minute."""

    __slots__ = (
        "attempt",
        "claimed_at",
        "created_at",
        "device_seconds",
        "due_at",
        "ended_at",
        "lease_until",
        "number",
        "status",
        "tail_seconds",
    )

    def __init__(
        self, number: int, created_at: float, *, device_seconds: float, tail_seconds: float
    ) -> None:
        self.number = number
        self.created_at = created_at
        self.device_seconds = device_seconds  # for which it has the GPU for itself
        self.tail_seconds = tail_seconds  # beside the next job: encoding, upload, settling
        self.status = Status.QUEUED
        self.attempt = 0
        self.lease_until = 0.0
        self.claimed_at: float | None = None  # first
        self.ended_at: float | None = None
        self.due_at = math.inf

    @property
    def is_over(self) -> bool:
        return self.status in (Status.FINISHED, Status.FAILED)


class Jobs:
    """Every accepted job, what it waits for, and the sweep that finds what was lost."""

    def __init__(self, clock: Clock, rules: Rules) -> None:
        self.publish: Callable[[Job], None] = lambda _job: None
        self.waits: list[float] = []  # from acceptance to the first claim
        self.ends: Counter[str] = Counter()
        self.accepted = self.refused = self.published = self.attempts = 0
        self.most_in_flight = self.most_queued = 0
        self.last_end = 0.0
        self._clock = clock
        self._rules = rules
        self._queued = self._in_flight = 0
        self._due: list[tuple[float, int, Job]] = []
        self._dead: deque[Job] = deque()
        self._sweeping = False

    # --- the caller's side

    def submit(self, job: Job) -> None:
        """Accept it and wake a worker, or refuse it: the queue is full."""
        if self._queued >= self._rules.queued_at_most:
            self.refused += 1
            return
        self.accepted += 1
        self._queued += 1
        self._in_flight += 1
        self.most_queued = max(self.most_queued, self._queued)
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self._dispatch(job)

    @property
    def are_in_flight(self) -> bool:
        return self._in_flight > 0

    # --- the worker's side

    def is_settled(self, job: Job) -> bool:
        """A claim would find nothing to do: its message is acknowledged."""
        return job.is_over or (job.status is Status.WORKING and self._clock.now < job.lease_until)

    def claim(self, job: Job) -> bool:
        """True if it is the caller's now; a worker that lives renews its lease for ever."""
        if self.is_settled(job):
            return False
        if job.attempt >= self._rules.max_attempts:
            self._end(job, Status.FAILED, "worker_lost")
            return False
        if job.claimed_at is None:
            job.claimed_at = self._clock.now
            self.waits.append(job.claimed_at - job.created_at)
        if job.status is Status.QUEUED:
            self._queued -= 1
        self.attempts += 1
        job.attempt += 1
        job.status, job.lease_until, job.due_at = Status.WORKING, math.inf, math.inf
        return True

    def complete(self, job: Job) -> None:
        self._end(job, Status.FINISHED, "finished")

    def fail(self, job: Job, reason: str) -> bool:
        """The attempt has failed. True if there is another: then its message is to come back."""
        if job.attempt >= self._rules.max_attempts:
            self._end(job, Status.FAILED, reason)
            return False
        self._requeue(job)
        self._look_at(job, self._clock.now + self._rules.requeue_grace_seconds)
        return True

    def lose(self, job: Job) -> None:
        """Its worker is gone: the lease runs out, then the sweep takes the job back."""
        job.lease_until = self._clock.now + self._rules.lease_seconds
        self._look_at(job, job.lease_until)

    def bury(self, job: Job) -> None:
        """Its message was delivered too often; the sweep hears of it."""
        self._dead.append(job)
        self._sweep_soon()

    # --- pieces

    def _dispatch(self, job: Job) -> None:
        self.published += 1
        self._look_at(job, self._clock.now + self._rules.republish_seconds)
        self.publish(job)

    def _requeue(self, job: Job) -> None:
        job.status, job.lease_until = Status.QUEUED, 0.0
        self._queued += 1

    def _end(self, job: Job, status: Status, reason: str) -> None:
        assert not job.is_over, "a job ends once"
        if job.status is Status.QUEUED:
            self._queued -= 1
        self._in_flight -= 1
        job.status, job.due_at = status, math.inf
        job.ended_at = self.last_end = self._clock.now
        self.ends[reason] += 1

    def _look_at(self, job: Job, moment: float) -> None:
        job.due_at = moment
        heapq.heappush(self._due, (moment, job.number, job))
        self._sweep_soon()

    def _sweep_soon(self) -> None:
        """At the next full minute, as Cloud Scheduler does; nothing is planned while nothing is due."""
        if not self._sweeping:
            self._sweeping = True
            every = self._rules.sweep_seconds
            self._clock.at((self._clock.now // every + 1) * every, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        swept = 0
        while self._due and swept < self._rules.sweep_jobs and self._due[0][0] <= self._clock.now:
            moment, _, job = heapq.heappop(self._due)
            if job.due_at == moment:
                swept += 1
                self._sweep_one(job)
        for _ in range(min(self._rules.sweep_dead_letters, len(self._dead))):
            job = self._dead.popleft()
            if not self.is_settled(job):
                self._end(job, Status.FAILED, "undeliverable")
        self._forget_the_ended()
        if self._due or self._dead:
            self._sweep_soon()

    def _sweep_one(self, job: Job) -> None:
        if job.status is Status.WORKING and job.attempt >= self._rules.max_attempts:
            self._end(job, Status.FAILED, "worker_lost")
            return
        if job.status is Status.WORKING:
            self._requeue(job)
        self._dispatch(job)

    def _forget_the_ended(self) -> None:
        """What is due no more would keep the sweep, and so the simulation, going for an hour."""
        while self._due and self._due[0][2].due_at != self._due[0][0]:
            heapq.heappop(self._due)
        if not self._in_flight:
            self._due.clear()
