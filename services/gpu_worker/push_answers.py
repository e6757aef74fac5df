"""What a pushed message's request is answered, found by the message's receipt."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from enum import IntEnum

from shared.messages import Message
from shared.ports import Delivery, MessageQueue


class Answer(IntEnum):
    """The status that tells Pub/Sub what to do with the message it pushed."""

    ACKNOWLEDGE = 204
    REDELIVER = 503


class PushAnswers:
    """A ``MessageQueue`` to acknowledge and release pushed messages by; the rest is the real one's."""

    def __init__(self, queue: MessageQueue) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[Answer]] = {}  # by receipt

    def expect(self, delivery: Delivery) -> Future[Answer]:
        """The answer to come. Cancelling it gives the message up before its work begins."""
        answer: Future[Answer] = Future()
        with self._lock:
            self._waiting[delivery.receipt] = answer
        answer.add_done_callback(lambda _answer: self._waiting.pop(delivery.receipt, None))
        return answer

    def redeliver_waiting(self) -> None:
        """Nothing more will be begun; what is in work still gets its own answer."""
        for answer in self._expected():
            if not answer.running():
                _give(answer, Answer.REDELIVER)

    def redeliver_all(self) -> None:
        """Nothing more will be worked on."""
        for answer in self._expected():
            _give(answer, Answer.REDELIVER)

    def acknowledge(self, delivery: Delivery) -> None:
        self._settle(delivery, Answer.ACKNOWLEDGE)

    def release(self, delivery: Delivery, *, delay_seconds: float | None = None) -> None:  # noqa: ARG002 - the port's
        """A push cannot ask for a delay: the subscription's backoff decides."""
        self._settle(delivery, Answer.REDELIVER)

    def extend(self, delivery: Delivery) -> None:
        """A push cannot be extended: its request is answered in time, or it is pushed again."""

    def publish(self, topic: str, message: Message) -> None:
        self._queue.publish(topic, message)

    def receive(self, topics: Sequence[str], *, wait_seconds: float) -> Delivery | None:
        return self._queue.receive(topics, wait_seconds=wait_seconds)

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        return self._queue.dead_letters(limit=limit)

    def depth(self, topic: str) -> int | None:
        return self._queue.depth(topic)

    def ping(self) -> None:
        self._queue.ping()

    def close(self) -> None:
        self._queue.close()

    def _expected(self) -> list[Future[Answer]]:
        with self._lock:
            return [*self._waiting.values()]

    def _settle(self, delivery: Delivery, answer: Answer) -> None:
        waiting = self._waiting.get(delivery.receipt)
        if waiting is not None:
            _give(waiting, answer)


def _give(waiting: Future[Answer], answer: Answer) -> None:
    # Given before, or given up: the first answer is the one that was sent.
    with suppress(InvalidStateError):
        waiting.set_result(answer)
