"""Pub/Sub pushing: a window of outstanding requests that grows and shrinks, back-off, dead letters."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from scale.clock import Clock
from scale.dice import Dice
from scale.jobs import Job


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """As terraform sets it; the window is Pub/Sub's own. Seconds."""

    ack_deadline_seconds: float
    backoff_min_seconds: float
    backoff_max_seconds: float
    max_deliveries: int
    window_at_first: float
    window_at_most: float
    window_kept_by_failure: float  # the factor by which a failure shrinks it ...
    window_lost_by_failure: float  # ... and by how many requests
    backoff_factor: float
    backoff_jitter: float  # 0.1: a tenth more or less

    def backoff_seconds(self, failures: int) -> float:
        """Before the next delivery of a message that failed so often, without jitter."""
        longest = math.log(self.backoff_max_seconds / self.backoff_min_seconds, self.backoff_factor)
        if failures - 1 >= longest:
            return self.backoff_max_seconds
        return self.backoff_min_seconds * self.backoff_factor ** (failures - 1)

    @property
    def patience_seconds(self) -> float:
        """How long a message lives that is refused at once at every delivery."""
        return sum(self.backoff_seconds(failures) for failures in range(1, self.max_deliveries))


class Message:
    __slots__ = ("deliveries", "is_out", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.deliveries = 0
        self.is_out = False


class Request:
    """One delivery of a message, until it is answered."""

    __slots__ = ("delivered_at", "delivery", "is_over", "is_waiting", "message")

    def __init__(self, message: Message, delivered_at: float) -> None:
        self.message = message
        self.delivery = message.deliveries
        self.delivered_at = delivered_at
        self.is_over = False
        self.is_waiting = False  # for an instance

    @property
    def job(self) -> Job:
        return self.message.job


class Push:
    def __init__(
        self,
        clock: Clock,
        subscription: Subscription,
        dice: Dice,
        *,
        request: Callable[[Request], None],
        bury: Callable[[Job], None],
    ) -> None:
        self.deliveries = self.failures = self.dead = 0
        self.most_out = self._out = 0
        self._clock = clock
        self._subscription = subscription
        self._dice = dice
        self._request = request
        self._bury = bury
        self._window = subscription.window_at_first
        self._ready: deque[Message] = deque()
        self._is_pumping = False

    def publish(self, job: Job) -> None:
        self._ready.append(Message(job))
        self._pump()

    def answer(self, request: Request, *, acknowledged: bool) -> None:
        """What the endpoint says; what comes after the deadline is not heard."""
        request.is_over = True
        message = request.message
        if not message.is_out or message.deliveries != request.delivery:
            return
        self._settle(message, acknowledged=acknowledged)

    def watch(self, request: Request) -> None:
        """It will take longer than Pub/Sub waits: then it counts as failed, whatever becomes of it."""
        deadline = request.delivered_at + self._subscription.ack_deadline_seconds
        self._clock.at(deadline, self._expire, request)

    def is_too_long(self, request: Request, ends_at: float) -> bool:
        return ends_at - request.delivered_at > self._subscription.ack_deadline_seconds

    def _expire(self, request: Request) -> None:
        message = request.message
        if message.is_out and message.deliveries == request.delivery:
            self._settle(message, acknowledged=False)

    def _settle(self, message: Message, *, acknowledged: bool) -> None:
        message.is_out = False
        self._out -= 1
        if acknowledged:
            self._window = min(self._window + 1, self._subscription.window_at_most)
        else:
            self.failures += 1
            kept = self._window * self._subscription.window_kept_by_failure
            self._window = max(1.0, kept - self._subscription.window_lost_by_failure)
            self._back_off(message)
        self._pump()

    def _back_off(self, message: Message) -> None:
        subscription = self._subscription
        if message.deliveries >= subscription.max_deliveries:
            self.dead += 1
            self._bury(message.job)
            return
        jitter = subscription.backoff_jitter
        pause = subscription.backoff_seconds(message.deliveries)
        self._clock.after(pause * self._dice.between(1 - jitter, 1 + jitter), self._again, message)

    def _again(self, message: Message) -> None:
        self._ready.append(message)
        self._pump()

    def _pump(self) -> None:
        """A loop and no recursion: an answer that comes at once frees a place for the next one."""
        if self._is_pumping:
            return
        self._is_pumping = True
        while self._ready and self._out < self._window:
            message = self._ready.popleft()
            message.deliveries += 1
            message.is_out = True
            self._out += 1
            self.most_out = max(self.most_out, self._out)
            self.deliveries += 1
            self._request(Request(message, self._clock.now))
        self._is_pumping = False
