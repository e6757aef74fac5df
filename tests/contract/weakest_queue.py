"""The least a ``MessageQueue`` may promise: what it took may come at any time, repeatedly, or never."""

from collections.abc import Callable, Sequence
from enum import StrEnum

from shared.errors import QueueUnavailable
from shared.messages import Message
from shared.ports import Delivery


class Weather(StrEnum):
    """What becomes of a publish."""

    FAIR = "fair"
    TAKEN_AT_ONCE = "taken at once"  # a worker has the message before the publisher hears of it
    DOWN = "down"
    REPLY_LOST = "reply lost"  # the message is durable, the publisher is told otherwise
    DIES_BEFORE = "dies before"  # the publisher's process ends before the message is durable
    DIES_AFTER = "dies after"  # the publisher's process ends right after


class ProcessDied(BaseException):
    """The process has ended at this line; nothing catches it."""


class WeakestQueue:
    """Remembers the ids of jobs it was given a message for; who delivers them is the test."""

    def __init__(self, taken_at_once: Callable[[str], None]) -> None:
        self.weather = Weather.FAIR
        self.published: list[str] = []
        self._given_up: list[Delivery] = []
        self._taken_at_once = taken_at_once

    def publish(self, topic: str, message: Message) -> None:  # noqa: ARG002 - the port's signature
        if self.weather is Weather.DOWN:
            raise QueueUnavailable("the queue cannot be used")
        if self.weather is Weather.DIES_BEFORE:
            raise ProcessDied
        self.published.append(message.job_id)
        if self.weather is Weather.REPLY_LOST:
            raise QueueUnavailable("the queue cannot be used")
        if self.weather is Weather.DIES_AFTER:
            raise ProcessDied
        if self.weather is Weather.TAKEN_AT_ONCE:
            self._taken_at_once(message.job_id)

    def give_up(self, job_id: str) -> None:
        """A message of the job has been delivered too often."""
        self._given_up.append(
            Delivery(
                message=Message(job_id=job_id),
                receipt=str(len(self._given_up)),
                topic="render-gpu",
                delivery_attempt=20,
            )
        )

    @property
    def given_up(self) -> list[str]:
        return [delivery.message.job_id for delivery in self._given_up]

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        return self._given_up[:limit]

    def acknowledge(self, delivery: Delivery) -> None:
        self._given_up.remove(delivery)
