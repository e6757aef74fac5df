"""A queue whose messages carry on the trace of what sent them."""

from collections.abc import Sequence
from dataclasses import replace

from shared.messages import Message
from shared.ports import Delivery, MessageQueue
from shared.telemetry import Traces


class TracedQueue:
    """A ``MessageQueue`` that tells how long a message took to publish; the rest is the inner one's."""

    def __init__(self, queue: MessageQueue, traces: Traces) -> None:
        self._queue = queue
        self._traces = traces

    def publish(self, topic: str, message: Message) -> None:
        told = {"messaging.destination.name": topic, "promptreel.job_id": message.job_id}
        with self._traces.span(
            f"publish {topic}", parent=message.traceparent, kind="producer", attributes=told
        ) as span:
            self._queue.publish(topic, replace(message, traceparent=span.traceparent))

    def receive(self, topics: Sequence[str], *, wait_seconds: float) -> Delivery | None:
        return self._queue.receive(topics, wait_seconds=wait_seconds)

    def acknowledge(self, delivery: Delivery) -> None:
        self._queue.acknowledge(delivery)

    def release(self, delivery: Delivery, *, delay_seconds: float | None = None) -> None:
        self._queue.release(delivery, delay_seconds=delay_seconds)

    def extend(self, delivery: Delivery) -> None:
        self._queue.extend(delivery)

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        return self._queue.dead_letters(limit=limit)

    def depth(self, topic: str) -> int | None:
        return self._queue.depth(topic)

    def ping(self) -> None:
        self._queue.ping()

    def close(self) -> None:
        self._queue.close()
