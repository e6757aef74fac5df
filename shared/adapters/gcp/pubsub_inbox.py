"""Long-polling pulls, and the hand-over of what they bring to threads that wait for it.

A plain pull and not a stream, on purpose: a worker renders one message at a time, extends its lease
itself while it lives, and must hold nothing it does not render. What a killed worker held comes back
at its deadline; a stream's would, too, but only once Pub/Sub has noticed that the stream is gone.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from google.api_core.exceptions import DeadlineExceeded
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.types import ReceivedMessage

# Longer than a receiver waits at a time: a pull goes on between two calls, so that a message which
# comes in that moment is not lost until its deadline.
_POLL_SECONDS = 30.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Arrival:
    """A message that is here, until its deadline."""

    subscription: str
    received: ReceivedMessage
    arrived_at: float  # monotonic seconds


class Inbox:
    """Safe to use from many threads; each arrival is taken once."""

    def __init__(self, subscriber: SubscriberClient, *, lease_seconds: float) -> None:
        self._subscriber = subscriber
        self._lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._pulls: dict[str, Future[Arrival | None]] = {}  # by subscription; guarded by it

    def take(self, subscriptions: Sequence[str], *, wait_seconds: float) -> Arrival | None:
        """The next message of these subscriptions, or None after the wait.

        Raises what a pull has failed with; the next call pulls again.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            pulls = [self._pull_of(subscription) for subscription in subscriptions]
            done, _ = wait(pulls, max(0.0, deadline - time.monotonic()), FIRST_COMPLETED)
            for pull in done:
                if self._is_mine(pull):
                    arrival = pull.result()
                    if arrival is not None and self._is_fresh(arrival):
                        return arrival
            if time.monotonic() >= deadline:
                return None

    def close(self) -> Sequence[Arrival]:
        """What has come and nobody took; closing the subscriber ends the pulls that go on."""
        with self._lock:
            pulls, self._pulls = [*self._pulls.values()], {}
        came = [pull.result() for pull in pulls if _has_come(pull)]
        return [arrival for arrival in came if arrival is not None]

    def _pull_of(self, subscription: str) -> Future[Arrival | None]:
        """The pull that goes on for a subscription; begun if there is none."""
        with self._lock:
            if subscription not in self._pulls:
                pull: Future[Arrival | None] = Future()
                self._pulls[subscription] = pull
                # A daemon: a process that ends does not wait for a message first.
                threading.Thread(
                    target=self._run, args=(pull, subscription), name="pubsub-pull", daemon=True
                ).start()
            return self._pulls[subscription]

    def _run(self, pull: Future[Arrival | None], subscription: str) -> None:
        try:
            pull.set_result(self._pull(subscription))
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            pull.set_exception(error)

    def _is_mine(self, pull: Future[Arrival | None]) -> bool:
        """Take what has come, unless another thread was faster."""
        with self._lock:
            mine = [name for name, one in self._pulls.items() if one is pull]
            for name in mine:
                del self._pulls[name]
        return bool(mine)

    def _is_fresh(self, arrival: Arrival) -> bool:
        # It lay here while nobody received, and belongs to another worker by now.
        return time.monotonic() - arrival.arrived_at < self._lease_seconds

    def _pull(self, subscription: str) -> Arrival | None:
        try:
            reply = self._subscriber.pull(
                subscription=subscription, max_messages=1, retry=None, timeout=_POLL_SECONDS
            )
        except DeadlineExceeded:
            return None  # Nothing came.
        for received in reply.received_messages:
            return Arrival(
                subscription=subscription, received=received, arrived_at=time.monotonic()
            )
        return None


def _has_come(pull: Future[Arrival | None]) -> bool:
    return pull.done() and not pull.cancelled() and pull.exception() is None
