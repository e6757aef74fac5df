"""A Cloud Run service: instances that are started when they are missed, and stopped when they are not."""

import math
from collections import deque
from dataclasses import dataclass

from scale.clock import Clock
from scale.dice import Dice
from scale.jobs import Jobs
from scale.push import Push, Request
from scale.worker import Instance, WorkerRules


@dataclass(frozen=True, kw_only=True)
class Service:
    """As terraform sets it, and as Cloud Run is known to behave. Seconds."""

    max_instances: int
    min_instances: int
    concurrency: int  # requests at the same time, an instance
    target_share: float  # of it, which the autoscaler keeps instances at
    autoscaler_seconds: float  # between two looks
    averaged_seconds: float  # that a look goes back
    pending_seconds: float  # a request waits for an instance, then it is 429
    pending_starts: float  # while one starts: so many times what a start takes, if that is longer
    idle_seconds: float  # until an instance without requests is stopped
    start_seconds: tuple[float, float]  # from being asked for to ready, at best and at worst
    lifetime_seconds: float  # mean, until an instance dies by itself


@dataclass
class Seconds:
    """Of all instances together: what is paid for."""

    total: float = 0.0
    starting: float = 0.0
    busy: float = 0.0


class Fleet:
    def __init__(
        self, clock: Clock, jobs: Jobs, service: Service, worker: WorkerRules, dice: Dice
    ) -> None:
        self.push: Push  # set by who connects the two
        self.seconds = Seconds()
        self.most_instances = self.starts = self.refusals = 0
        self._clock = clock
        self._jobs = jobs
        self._service = service
        self._worker = worker
        self._dice = dice
        self._by_load: list[dict[Instance, float]] = [{} for _ in range(service.concurrency + 1)]
        self._pending: deque[Request] = deque()
        self._waiting = 0  # of those pending, the ones not given up
        self._starting = self._total = 0
        self._in_hand = 0  # requests, pending or with an instance
        self._area = self._area_at = 0.0  # requests times seconds, for their average
        self._looks: deque[tuple[float, float]] = deque()
        self._is_looking = False

    def open(self) -> None:
        for _ in range(self._service.min_instances):
            self._start()

    def request(self, request: Request) -> None:
        self._count(1)
        instance = self._with_room()
        if instance is not None:
            self._hand(request, instance)
            return
        request.is_waiting = True
        self._pending.append(request)
        self._waiting += 1
        self._start_for_the_waiting()
        service = self._service
        patience = service.pending_seconds
        if self._starting:
            patience = max(patience, service.pending_starts * sum(service.start_seconds) / 2)
        self._clock.after(patience, self._turn_away, request)

    def freed(self, instance: Instance) -> None:
        """One of its requests is answered."""
        self._count(-1)
        self._put(instance, instance.load + 1)
        self._serve_the_waiting(instance)
        if instance.load == 0:
            self._is_idle(instance)

    def close(self) -> Seconds:
        """Time is over: what is still there is paid for up to now, and not for its idle minutes to come."""
        for load in self._by_load:
            for instance in [*load]:
                self._remove(instance)
        return self.seconds

    # --- which instance

    def _with_room(self) -> Instance | None:
        """The one with the fewest requests, and of those the one that was so last: the others age."""
        for load in range(self._service.concurrency):
            if self._by_load[load]:
                return next(reversed(self._by_load[load]))
        return None

    def _hand(self, request: Request, instance: Instance) -> None:
        load = instance.load
        self._by_load[load + 1][instance] = self._by_load[load].pop(instance)
        instance.take(request)

    def _put(self, instance: Instance, load_before: int) -> None:
        started_at = self._by_load[load_before].pop(instance)
        self._by_load[instance.load][instance] = started_at

    def _serve_the_waiting(self, instance: Instance) -> None:
        while self._pending and instance.load < self._service.concurrency:
            request = self._pending.popleft()
            if request.is_waiting:
                request.is_waiting = False
                self._waiting -= 1
                self._hand(request, instance)

    def _turn_away(self, request: Request) -> None:
        """429, if nobody has taken it: nobody had begun it either."""
        if request.is_waiting:
            request.is_waiting = False
            self._waiting -= 1
            self.refusals += 1
            self._count(-1)
            self.push.answer(request, acknowledged=False)

    # --- how many

    def _start_for_the_waiting(self) -> None:
        while (
            self._waiting > self._starting * self._service.concurrency
            and self._total < self._service.max_instances
        ):
            self._start()

    def _start(self) -> None:
        self._total += 1
        self._starting += 1
        self.starts += 1
        self.most_instances = max(self.most_instances, self._total)
        seconds = self._dice.between(*self._service.start_seconds)
        self._clock.after(seconds, self._is_ready, self._clock.now)

    def _is_ready(self, started_at: float) -> None:
        self._starting -= 1
        self.seconds.starting += self._clock.now - started_at
        instance = Instance(self, self._clock, self._jobs, self.push, self._worker)
        self._by_load[0][instance] = started_at
        lifetime = self._dice.waiting_time(self._service.lifetime_seconds)
        if not math.isinf(lifetime):
            self._clock.after(lifetime, self._dies, instance)
        self._serve_the_waiting(instance)
        if instance.load == 0:
            self._is_idle(instance)

    def _is_idle(self, instance: Instance) -> None:
        instance.idle_since = self._clock.now
        if not instance.is_watched:
            instance.is_watched = True
            self._clock.after(self._service.idle_seconds, self._look_whether_idle, instance)

    def _look_whether_idle(self, instance: Instance) -> None:
        instance.is_watched = False
        if not instance.is_alive or instance.load:
            return
        until = instance.idle_since + self._service.idle_seconds
        if self._clock.now < until:
            instance.is_watched = True
            self._clock.at(until, self._look_whether_idle, instance)
        elif self._total > self._service.min_instances:
            self._remove(instance)
            instance.is_alive = False

    def _dies(self, instance: Instance) -> None:
        if not instance.is_alive:
            return
        broken_off = instance.die()
        self._remove(instance)  # before anything is delivered again: not to this one
        self._count(-len(broken_off))
        for request in broken_off:
            self.push.answer(request, acknowledged=False)
        if self._total < self._service.min_instances:
            self._start()

    def _remove(self, instance: Instance) -> None:
        started_at = self._by_load[instance.load].pop(instance)
        self._total -= 1
        self.seconds.total += self._clock.now - started_at
        self.seconds.busy += instance.busy_seconds

    # --- the autoscaler

    def _count(self, requests: int) -> None:
        now = self._clock.now
        self._area += self._in_hand * (now - self._area_at)
        self._area_at = now
        self._in_hand += requests
        if not self._is_looking:
            self._is_looking = True
            self._looks.append((now, self._area))
            self._clock.after(self._service.autoscaler_seconds, self._look)

    def _look(self) -> None:
        """As many instances as keep the average at its target; nothing is stopped by it."""
        self._is_looking = False
        now, service = self._clock.now, self._service
        if not self._in_hand:
            self._looks.clear()
            return
        self._count(0)  # looks again
        while len(self._looks) > 1 and self._looks[1][0] <= now - service.averaged_seconds:
            self._looks.popleft()
        since, area = self._looks[0]
        average = (self._area - area) / max(service.averaged_seconds, now - since)
        wanted = math.ceil(average / (service.concurrency * service.target_share) - 1e-9)
        while self._total < min(wanted, service.max_instances):
            self._start()
