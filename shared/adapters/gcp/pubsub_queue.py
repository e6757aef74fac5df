"""The message queue on Pub/Sub: publishing, pulling, dead letters.

Pub/Sub delivers at least once. An acknowledgement that comes after the deadline is ignored here when
this process has seen the message again, and by Pub/Sub as far as it can; if it is not, the job's own
lease and the sweep bring the job back.
"""

import json
import math
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import structlog
from google.api_core.exceptions import DeadlineExceeded, GoogleAPIError
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient
from google.cloud.pubsub_v1.types import BatchSettings
from google.pubsub_v1.types import ReceivedMessage

from shared.adapters.gcp.pubsub_inbox import Arrival, Inbox
from shared.adapters.gcp.pubsub_message import attributes_of, read_message
from shared.adapters.gcp.pubsub_topology import (
    TOPICS,
    TopicNames,
    names_of,
    subscription_path,
    topic_path,
)
from shared.errors import QueueUnavailable, UnreadableMessage
from shared.messages import Message, encode
from shared.ports import Delivery

# A caller of the API waits for a publish.
_CALL_SECONDS = 5.0
# Looking for dead letters waits this long when there are none.
_LOOK_SECONDS = 2.0
_MAX_DELAY_SECONDS = 600

# What a message that was put aside says to whoever looks into the dead letters.
REASON = "promptreel_unreadable"
ATTRIBUTES = "promptreel_attributes"
_MAX_ATTRIBUTE_BYTES = 1024

log = structlog.get_logger("promptreel.pubsub")


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What Pub/Sub calls a delivery."""

    subscription: str
    message_id: str
    ack_id: str

    @property
    def message(self) -> tuple[str, str]:
        """What is the same when it is delivered again."""
        return self.subscription, self.message_id


class PubsubQueue:
    """A ``MessageQueue``. Its topics and subscriptions exist: Terraform makes them."""

    def __init__(
        self,
        project: str,
        *,
        prefix: str = "",
        visibility_seconds: float = 60,
    ) -> None:
        self._project = project
        self._prefix = prefix
        self._visibility_seconds = math.ceil(visibility_seconds)
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}  # by receipt
        with _translated():
            # One message a batch: a caller waits for each.
            self._publisher = PublisherClient(batch_settings=BatchSettings(max_messages=1))
            self._subscriber = SubscriberClient()
        self._inbox = Inbox(self._subscriber, lease_seconds=self._visibility_seconds)

    def publish(self, topic: str, message: Message) -> None:
        self._publish(self._names(topic).topic, encode(message), attributes_of(message))

    def receive(self, topics: Sequence[str], *, wait_seconds: float) -> Delivery | None:
        """A queue just opened has nothing yet: to wait for nothing is to hear nothing."""
        by_subscription = {
            subscription_path(self._project, self._names(topic).pull): topic for topic in topics
        }
        deadline = time.monotonic() + wait_seconds
        while True:
            remaining_seconds = max(0.0, deadline - time.monotonic())
            with _translated():
                arrival = self._inbox.take([*by_subscription], wait_seconds=remaining_seconds)
            if arrival is None:
                return None
            delivery = self._delivery(by_subscription[arrival.subscription], arrival)
            if delivery is not None:
                return delivery

    def acknowledge(self, delivery: Delivery) -> None:
        """If it fails the message comes back at its deadline."""
        held = self._forget(delivery)
        if held is not None:
            self._acknowledge(held)

    def release(self, delivery: Delivery, *, delay_seconds: float | None = None) -> None:
        """The delay is rounded up to a second and at most 600.

        Pub/Sub adds the backoff of its retry policy to it; so does a delay of 0 only mean "now" for
        a subscription without one.
        """
        held = self._forget(delivery)
        if held is not None:
            self._set_deadline(held, min(math.ceil(delay_seconds or 0), _MAX_DELAY_SECONDS))

    def extend(self, delivery: Delivery) -> None:
        held = self._held.get(delivery.receipt)
        if held is not None:
            self._set_deadline(held, self._visibility_seconds)

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        """What was put aside as unreadable is passed over, and stays as long as Pub/Sub keeps it.

        The topics are looked through side by side: where there are none, each look waits.
        """
        with ThreadPoolExecutor(len(TOPICS), thread_name_prefix="dead-letters") as threads:
            letters = threads.map(partial(self._dead_letters_of, limit=limit), TOPICS)
            return [letter for of_a_topic in letters for letter in of_a_topic]

    def depth(self, topic: str) -> None:  # noqa: ARG002 - the port's
        """Pub/Sub counts its messages in Cloud Monitoring only, minutes late."""
        return

    def ping(self) -> None:
        with _translated():
            self._publisher.get_topic(
                topic=topic_path(self._project, self._names(TOPICS[0]).topic),
                retry=None,
                timeout=_CALL_SECONDS,
            )

    def close(self) -> None:
        """What this process still holds goes back at once."""
        untaken = [_held(arrival) for arrival in self._inbox.close()]
        with self._lock:
            held, self._held = [*self._held.values()], {}
        for one in (*untaken, *held):
            try:
                self._set_deadline(one, 0)
            except QueueUnavailable as error:
                log.warning("message not handed back", reason=error.message)
        self._publisher.transport.close()  # every publish has waited for its own result
        self._subscriber.close()

    # --- pieces

    def _names(self, topic: str) -> TopicNames:
        return names_of(topic, prefix=self._prefix)

    def _publish(self, name: str, data: bytes, attributes: dict[str, str]) -> None:
        with _translated():
            self._publisher.publish(
                topic_path(self._project, name),
                data,
                retry=Retry(timeout=_CALL_SECONDS),
                timeout=_CALL_SECONDS,
                **attributes,
            ).result(timeout=_CALL_SECONDS)

    def _delivery(self, topic: str, arrival: Arrival) -> Delivery | None:
        """None for a message no code can read: it is put aside."""
        received = arrival.received
        try:
            message = read_message(received.message.data, received.message.attributes)
        except UnreadableMessage as error:
            self._put_aside(topic, arrival, reason=error.message)
            return None
        held = _held(arrival)
        self._set_deadline(held, self._visibility_seconds)
        return Delivery(
            message=message,
            receipt=self._hold(held),
            topic=topic,
            delivery_attempt=received.delivery_attempt or 1,
        )

    def _put_aside(self, topic: str, arrival: Arrival, *, reason: str) -> None:
        """Move a message no code can read to the dead letters; if that fails, it comes back."""
        held, message = _held(arrival), arrival.received.message
        log.error("message put aside", reason=reason, message_id=held.message_id, topic=topic)
        # As one attribute: theirs may have names that ours, or the client's, have too.
        attributes = json.dumps(dict(message.attributes))[:_MAX_ATTRIBUTE_BYTES]
        self._publish(
            self._names(topic).dead, message.data, {REASON: reason, ATTRIBUTES: attributes}
        )
        self._acknowledge(held)

    def _hold(self, held: _Held) -> str:
        receipt = uuid.uuid4().hex
        with self._lock:
            # It is here again, so whoever got it before is late, and its receipt worth nothing.
            late = [key for key, one in self._held.items() if one.message == held.message]
            for key in late:
                del self._held[key]
            self._held[receipt] = held
        return receipt

    def _forget(self, delivery: Delivery) -> _Held | None:
        with self._lock:
            return self._held.pop(delivery.receipt, None)

    def _acknowledge(self, held: _Held) -> None:
        with _translated():
            self._subscriber.acknowledge(
                subscription=held.subscription, ack_ids=[held.ack_id], timeout=_CALL_SECONDS
            )

    def _set_deadline(self, held: _Held, seconds: int) -> None:
        with _translated():
            self._subscriber.modify_ack_deadline(
                subscription=held.subscription,
                ack_ids=[held.ack_id],
                ack_deadline_seconds=seconds,
                timeout=_CALL_SECONDS,
            )

    def _dead_letters_of(self, topic: str, *, limit: int) -> Sequence[Delivery]:
        found: list[Delivery] = []
        while len(found) < limit:
            received = self._pull_dead(topic, limit=limit - len(found))
            if not received:
                break
            found += [letter for one in received if (letter := self._letter(topic, one))]
        return found

    def _pull_dead(self, topic: str, *, limit: int) -> Sequence[ReceivedMessage]:
        subscription = subscription_path(self._project, self._names(topic).dead_pull)
        with _translated():
            try:
                reply = self._subscriber.pull(
                    subscription=subscription, max_messages=limit, retry=None, timeout=_LOOK_SECONDS
                )
            except DeadlineExceeded:
                return []  # There are none: Pub/Sub would wait for one.
        return list(reply.received_messages)

    def _letter(self, topic: str, received: ReceivedMessage) -> Delivery | None:
        try:
            message = read_message(received.message.data, received.message.attributes)
        except UnreadableMessage:
            return None
        held = _Held(
            subscription=subscription_path(self._project, self._names(topic).dead_pull),
            message_id=received.message.message_id,
            ack_id=received.ack_id,
        )
        return Delivery(
            message=message,
            receipt=self._hold(held),
            topic=topic,
            delivery_attempt=received.delivery_attempt or 1,
        )


def _held(arrival: Arrival) -> _Held:
    return _Held(
        subscription=arrival.subscription,
        message_id=arrival.received.message.message_id,
        ack_id=arrival.received.ack_id,
    )


@contextmanager
def _translated() -> Iterator[None]:
    """Pub/Sub's errors name projects and subscriptions; ours must not."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError, FutureTimeout) as error:
        raise QueueUnavailable(f"Pub/Sub cannot be used ({type(error).__name__})") from error
