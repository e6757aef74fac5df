"""How topics and subscriptions are named and set up, in one place.

    render-gpu ──▶ render-gpu-pull, render-gpu-push ──too many deliveries──▶ render-gpu-dead
                                                                              └─▶ render-gpu-dead-pull

Terraform makes the real ones by these names; ``create_topology`` makes them in an emulator.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.api_core.exceptions import AlreadyExists
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from shared.catalog import TOPIC_GPU, TOPIC_REMOTE
from shared.messages import TOPIC_WEBHOOKS

TOPICS = (TOPIC_GPU, TOPIC_REMOTE, TOPIC_WEBHOOKS)

# Dead letters are looked through by one sweep at a time; the next one gets what it left, also if it was
# killed with them in its hands. Looking at one twice does no harm.
_DEAD_LETTER_ACK_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class TopicNames:
    """The ids of everything that belongs to one topic."""

    topic: str
    pull: str
    push: str
    dead: str
    dead_pull: str


def names_of(topic: str, *, prefix: str = "") -> TopicNames:
    name = f"{prefix}{topic}"
    return TopicNames(
        topic=name,
        pull=f"{name}-pull",
        push=f"{name}-push",
        dead=f"{name}-dead",
        dead_pull=f"{name}-dead-pull",
    )


def topic_path(project: str, name: str) -> str:
    return f"projects/{project}/topics/{name}"


def subscription_path(project: str, name: str) -> str:
    return f"projects/{project}/subscriptions/{name}"


@dataclass(frozen=True, kw_only=True)
class PushTarget:
    """Where a push subscription sends its messages, and whom it says it is."""

    endpoint: str
    service_account: str | None = None  # None: no token, as the emulator pushes anyway
    audience: str | None = None


@dataclass(frozen=True, kw_only=True)
class Redelivery:
    """When a message comes back, and when it is given up."""

    ack_deadline_seconds: int = 60  # 10 to 600
    max_delivery_attempts: int = 100  # 5 to 100
    backoff_min_seconds: float = 10
    backoff_max_seconds: float = 600


def create_topology(
    project: str,
    *,
    prefix: str = "",
    topics: Sequence[str] = TOPICS,
    redelivery: Redelivery | None = None,
    push: PushTarget | None = None,
) -> None:
    """Make what is not there yet, for tests and the emulator.

    A push subscription comes beside the pull one, and each of the two gets every message: let only
    one of them have workers.
    """
    redelivery = redelivery or Redelivery()
    publisher, subscriber = PublisherClient(), SubscriberClient()
    try:
        for topic in topics:
            names = names_of(topic, prefix=prefix)
            for name in (names.topic, names.dead):
                with suppress(AlreadyExists):
                    publisher.create_topic(name=topic_path(project, name))
            for request in _subscriptions(project, names, redelivery, push):
                with suppress(AlreadyExists):
                    subscriber.create_subscription(request=request)
    finally:
        subscriber.close()
        publisher.stop()
        publisher.transport.close()


def _subscriptions(
    project: str, names: TopicNames, redelivery: Redelivery, push: PushTarget | None
) -> list[dict[str, Any]]:
    working = {
        "topic": topic_path(project, names.topic),
        "ack_deadline_seconds": redelivery.ack_deadline_seconds,
        "dead_letter_policy": {
            "dead_letter_topic": topic_path(project, names.dead),
            "max_delivery_attempts": redelivery.max_delivery_attempts,
        },
        "retry_policy": {
            "minimum_backoff": timedelta(seconds=redelivery.backoff_min_seconds),
            "maximum_backoff": timedelta(seconds=redelivery.backoff_max_seconds),
        },
    }
    subscriptions: list[dict[str, Any]] = [
        {"name": subscription_path(project, names.pull), **working},
        {
            "name": subscription_path(project, names.dead_pull),
            "topic": topic_path(project, names.dead),
            "ack_deadline_seconds": _DEAD_LETTER_ACK_SECONDS,
        },
    ]
    if push is not None:
        name = subscription_path(project, names.push)
        subscriptions.append({"name": name, **working, "push_config": _push_config(push)})
    return subscriptions


def _push_config(push: PushTarget) -> dict[str, Any]:
    config: dict[str, Any] = {"push_endpoint": push.endpoint}
    if push.service_account is not None:
        config["oidc_token"] = {
            "service_account_email": push.service_account,
            # Without one Pub/Sub would put the whole endpoint there, and a new path break it.
            "audience": push.audience or push.endpoint,
        }
    return config
