"""One instance that is pushed to: a line, one job on the device, the ones before it being uploaded.

As ``services/gpu_worker/push.py`` has it, with one simplification: text, denoising and decoding hold the
device for themselves. The real worker claims the next job when denoising ends and shares the GPU from
there; no more clips come out of it, but they are claimed earlier and take longer.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from scale.clock import Clock
from scale.jobs import Jobs
from scale.push import Push, Request


@dataclass(frozen=True, kw_only=True)
class WorkerRules:
    line_seconds: float  # who is not begun by then is answered 503
    max_render_seconds: float  # an attempt that takes longer fails


class Owner(Protocol):
    """Who is told that an instance has a place again."""

    def freed(self, instance: "Instance") -> None: ...


class Instance:
    """Its seconds: ``busy_seconds`` are those in which the device had a job."""

    def __init__(
        self, owner: Owner, clock: Clock, jobs: Jobs, push: Push, rules: WorkerRules
    ) -> None:
        self.load = 0  # requests
        self.busy_seconds = 0.0
        self.idle_since = clock.now
        self.is_watched = False  # for being idle too long
        self.is_alive = True
        self._owner = owner
        self._clock = clock
        self._jobs = jobs
        self._push = push
        self._rules = rules
        self._line: deque[Request] = deque()
        self._on_device: Request | None = None
        self._device_since = 0.0
        self._in_hand: dict[Request, None] = {}  # every request that it has not answered

    def take(self, request: Request) -> None:
        self.load += 1
        self._in_hand[request] = None
        if self._jobs.is_settled(request.job):
            self._answer(request, acknowledged=True)
            return
        self._line.append(request)
        if self._on_device is None:
            self._begin()
        else:
            self._clock.after(self._rules.line_seconds, self._give_up, request)

    def die(self) -> list[Request]:
        """Without a word: leases run out, and the requests that are returned break off."""
        self.is_alive = False
        if self._on_device is not None:
            self.busy_seconds += self._clock.now - self._device_since
        for request in self._in_hand:
            if request not in self._line:
                self._jobs.lose(request.job)
        return [*self._in_hand]

    def _begin(self) -> None:
        while self._line and self._on_device is None:
            request = self._line.popleft()
            if request.is_over:
                continue
            if not self._jobs.claim(request.job):
                self._answer(request, acknowledged=True)
                continue
            job, limit = request.job, self._rules.max_render_seconds
            self._on_device, self._device_since = request, self._clock.now
            seconds = min(job.device_seconds, limit)
            if self._push.is_too_long(request, self._clock.now + seconds + job.tail_seconds):
                self._push.watch(request)
            self._clock.after(seconds, self._device_is_free, request)

    def _device_is_free(self, request: Request) -> None:
        if not self.is_alive:
            return
        job = request.job
        self.busy_seconds += self._clock.now - self._device_since
        self._on_device = None
        if job.device_seconds <= self._rules.max_render_seconds:
            self._clock.after(job.tail_seconds, self._is_stored, request)
        else:
            comes_back = self._jobs.fail(job, "render_timed_out")
            self._answer(request, acknowledged=not comes_back)
        self._begin()

    def _is_stored(self, request: Request) -> None:
        if self.is_alive:
            self._jobs.complete(request.job)
            self._answer(request, acknowledged=True)

    def _give_up(self, request: Request) -> None:
        if self.is_alive and request in self._in_hand and request in self._line:
            self._line.remove(request)
            self._answer(request, acknowledged=False)

    def _answer(self, request: Request, *, acknowledged: bool) -> None:
        del self._in_hand[request]
        self.load -= 1
        # Before the window moves: what that lets through may come to this very place.
        self._owner.freed(self)
        self._push.answer(request, acknowledged=acknowledged)
