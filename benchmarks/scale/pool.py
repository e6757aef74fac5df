"""A worker pool: a fixed number of instances that pull, each a job when its device is free."""

import math
from collections import deque
from dataclasses import dataclass

from scale.clock import Clock
from scale.dice import Dice
from scale.fleet import Seconds
from scale.jobs import Job, Jobs


@dataclass(frozen=True, kw_only=True)
class WorkerPool:
    """Always there, always paid for. Seconds."""

    instances: int
    start_seconds: tuple[float, float]
    visibility_seconds: float  # until a message comes back whose worker has died
    lifetime_seconds: float  # mean, until an instance dies by itself
    max_render_seconds: float = math.inf


class Puller:
    """One instance; what it had on its device when it died is nobody's."""

    __slots__ = ("busy_seconds", "life", "tails")

    def __init__(self) -> None:
        self.life = 0  # grows when it dies: what was planned before is void
        self.busy_seconds = 0.0
        self.tails: dict[Job, None] = {}


class Pool:
    def __init__(self, clock: Clock, jobs: Jobs, pool: WorkerPool, dice: Dice) -> None:
        self.deliveries = 0
        self.seconds = Seconds()
        self._clock = clock
        self._jobs = jobs
        self._pool = pool
        self._dice = dice
        self._ready: deque[Job] = deque()
        self._free: list[Puller] = []
        self._working: dict[Puller, Job] = {}
        self._pullers = [Puller() for _ in range(pool.instances)]

    def open(self) -> None:
        for puller in self._pullers:
            self._start(puller)

    def publish(self, job: Job) -> None:
        self._ready.append(job)
        if self._free:
            self._next(self._free.pop())

    def close(self) -> Seconds:
        """They were all there from the first moment to the last job's end."""
        self.seconds.total = self._jobs.last_end * self._pool.instances
        self.seconds.busy = sum(puller.busy_seconds for puller in self._pullers)
        return self.seconds

    def _start(self, puller: Puller) -> None:
        seconds = self._dice.between(*self._pool.start_seconds)
        self.seconds.starting += seconds
        self._clock.after(seconds, self._is_ready, puller)

    def _is_ready(self, puller: Puller) -> None:
        lifetime = self._dice.waiting_time(self._pool.lifetime_seconds)
        if not math.isinf(lifetime):
            self._clock.after(lifetime, self._dies, puller, puller.life)
        self._next(puller)

    def _next(self, puller: Puller) -> None:
        while self._ready:
            job = self._ready.popleft()
            self.deliveries += 1
            if self._jobs.claim(job):
                seconds = min(job.device_seconds, self._pool.max_render_seconds)
                self._working[puller] = job
                self._clock.after(seconds, self._device_is_free, puller, puller.life, seconds)
                return
        self._free.append(puller)

    def _device_is_free(self, puller: Puller, life: int, seconds: float) -> None:
        if puller.life != life:
            return
        job = self._working.pop(puller)
        puller.busy_seconds += seconds
        if job.device_seconds <= self._pool.max_render_seconds:
            puller.tails[job] = None
            self._clock.after(job.tail_seconds, self._is_stored, puller, life, job)
        elif self._jobs.fail(job, "render_timed_out"):
            self._ready.append(job)
        self._next(puller)

    def _is_stored(self, puller: Puller, life: int, job: Job) -> None:
        if puller.life == life:
            del puller.tails[job]
            self._jobs.complete(job)

    def _dies(self, puller: Puller, life: int) -> None:
        if puller.life != life or not self._jobs.are_in_flight:
            return
        puller.life += 1
        if puller in self._free:
            self._free.remove(puller)
        working = self._working.pop(puller, None)
        for job in [*puller.tails, *([] if working is None else [working])]:
            self._jobs.lose(job)
            self._clock.after(self._pool.visibility_seconds, self.publish, job)
        puller.tails.clear()
        self._start(puller)
