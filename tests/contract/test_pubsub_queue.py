"""What Pub/Sub's queue does beyond what every queue promises, against Google's emulator."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import pytest
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from shared.adapters.gcp.pubsub_queue import ATTRIBUTES, REASON, PubsubQueue
from shared.adapters.gcp.pubsub_topology import (
    TOPICS,
    PushTarget,
    Redelivery,
    create_topology,
    names_of,
    subscription_path,
    topic_path,
)
from shared.adapters.gcp.push_envelope import Pushed, parse_push
from shared.errors import QueueUnavailable
from shared.messages import Message, encode

TOPIC = "render-gpu"
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
QUICK = Redelivery(ack_deadline_seconds=10, backoff_min_seconds=0.1, backoff_max_seconds=0.1)


@pytest.fixture(autouse=True)
def emulator(pubsub_emulator_host, monkeypatch):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_emulator_host)


@pytest.fixture
def project(emulator, emulated_project) -> str:
    create_topology(emulated_project, redelivery=QUICK)
    return emulated_project


@pytest.fixture
def open_queue(project) -> Callable[[], PubsubQueue]:
    return lambda: PubsubQueue(project, visibility_seconds=10)


@pytest.fixture
def queue(open_queue) -> Iterator[PubsubQueue]:
    with closing(open_queue()) as queue:
        yield queue


@pytest.fixture
def subscriber(emulator) -> Iterator[SubscriberClient]:
    with SubscriberClient() as client:
        yield client


@pytest.fixture
def publish(emulator, project) -> Iterator[Callable[..., None]]:
    """Publishes as somebody else would."""
    client = PublisherClient()

    def publish(content: bytes, *, name: str = names_of(TOPIC).topic, **attributes: str) -> None:
        client.publish(topic_path(project, name), content, **attributes).result(timeout=10)

    yield publish
    client.transport.close()


def received(queue: PubsubQueue) -> Message:
    delivery = queue.receive([TOPIC], wait_seconds=10)
    queue.acknowledge(delivery)
    return delivery.message


# --- messages


def test_a_message_in_the_attributes_alone_is_readable(queue, publish):
    publish(b"", job_id="job_1")
    assert received(queue) == Message(job_id="job_1")


@pytest.mark.parametrize("name", ["traceparent", "googclient_traceparent"])
def test_a_trace_in_the_attributes_is_read(queue, publish, name):
    publish(encode(Message(job_id="job_1")), **{name: TRACE})
    assert received(queue) == Message(job_id="job_1", traceparent=TRACE)


def test_the_trace_is_published_in_the_attributes_too(queue, project, subscriber):
    queue.publish(TOPIC, Message(job_id="job_1", traceparent=TRACE))
    queue.publish(TOPIC, Message(job_id="job_2"))
    path = subscription_path(project, names_of(TOPIC).pull)
    reply = subscriber.pull(subscription=path, max_messages=2)
    pulled = {one.message.data: dict(one.message.attributes) for one in reply.received_messages}
    assert pulled == {
        encode(Message(job_id="job_1", traceparent=TRACE)): {"traceparent": TRACE},
        encode(Message(job_id="job_2")): {},
    }


def test_an_unreadable_message_is_found_in_the_dead_letters_with_the_reason(
    queue, project, publish, subscriber
):
    publish(b"\xff not ours", color="red")
    publish(b"", job_id="a/b")
    # Past the deadline at which it would come, and be put aside, again.
    assert queue.receive([TOPIC], wait_seconds=13) is None
    path = subscription_path(project, names_of(TOPIC).dead_pull)
    dead = []
    for _ in range(2):
        reply = subscriber.pull(subscription=path, max_messages=9, timeout=4)
        dead += [one.message for one in reply.received_messages]
    assert len(dead) == 2
    by_data = {one.data: dict(one.attributes) for one in dead}
    assert by_data[b"\xff not ours"][REASON] == "the message is not JSON"
    assert json.loads(by_data[b"\xff not ours"][ATTRIBUTES]) == {"color": "red"}
    assert by_data[b""][REASON] == "the message names no job_id"


def test_the_topics_are_looked_through_side_by_side(queue, publish, monkeypatch):
    """Where there are no dead letters each look waits, and a sweep is paid for by the second."""
    publish(encode(Message(job_id="job_1")), name=names_of(TOPIC).dead)
    everybody_is_there = threading.Barrier(len(TOPICS), timeout=10)
    pull, seen = queue._subscriber.pull, set()

    def pull_once_all_are_there(**arguments):
        if (subscription := arguments["subscription"]) not in seen:
            seen.add(subscription)
            everybody_is_there.wait()
        return pull(**arguments)

    monkeypatch.setattr(queue._subscriber, "pull", pull_once_all_are_there)
    (letter,) = queue.dead_letters(limit=2)
    assert letter.message.job_id == "job_1"
    assert len(seen) == len(TOPICS)


def test_one_look_finds_a_dead_letter_behind_many_unreadable_messages(queue, publish):
    dead = names_of(TOPIC).dead
    for content in (*[b"not ours"] * 5, encode(Message(job_id="job_1"))):
        publish(content, name=dead)
    (letter,) = queue.dead_letters(limit=2)
    assert letter.message == Message(job_id="job_1")


# --- leases


def test_a_receipt_is_forgotten_when_its_message_comes_again(queue):
    queue.publish(TOPIC, Message(job_id="job_1"))
    late = queue.receive([TOPIC], wait_seconds=10)
    current = queue.receive([TOPIC], wait_seconds=20)
    assert [*queue._held] == [current.receipt]
    queue.acknowledge(late)
    assert [*queue._held] == [current.receipt]


def test_a_message_in_work_is_kept_from_others_as_long_as_it_is_extended(queue, open_queue):
    queue.publish(TOPIC, Message(job_id="job_1"))
    delivery = queue.receive([TOPIC], wait_seconds=10)
    with closing(open_queue()) as other:
        for _ in range(2):
            assert other.receive([TOPIC], wait_seconds=6) is None
            queue.extend(delivery)


def test_a_worker_holds_one_message_and_leaves_the_rest_to_others(queue, open_queue):
    for number in range(3):
        queue.publish(TOPIC, Message(job_id=f"job_{number}"))
    assert queue.receive([TOPIC], wait_seconds=10)
    with closing(open_queue()) as other:
        assert other.receive([TOPIC], wait_seconds=5)
        assert other.receive([TOPIC], wait_seconds=5)


# --- what does not answer


def test_a_missing_topic_is_no_secret_of_the_project(emulated_project):
    with closing(PubsubQueue(emulated_project)) as queue:
        for call in (
            lambda: queue.publish(TOPIC, Message(job_id="job_1")),
            lambda: queue.receive([TOPIC], wait_seconds=10),
            lambda: queue.dead_letters(limit=1),
            queue.ping,
        ):
            with pytest.raises(QueueUnavailable) as caught:
                call()
            assert caught.value.message == "Pub/Sub cannot be used (NotFound)"


def test_a_queue_that_is_set_up_later_is_received_from(emulated_project):
    with closing(PubsubQueue(emulated_project)) as queue:
        with pytest.raises(QueueUnavailable):
            queue.receive([TOPIC], wait_seconds=10)
        create_topology(emulated_project)
        queue.publish(TOPIC, Message(job_id="job_1"))
        assert received(queue) == Message(job_id="job_1")


def test_publishing_to_nobody_gives_up_soon(monkeypatch, emulated_project):
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    with closing(PubsubQueue(emulated_project)) as queue:
        started = time.monotonic()
        with pytest.raises(QueueUnavailable):
            queue.publish(TOPIC, Message(job_id="job_1"))
        assert time.monotonic() - started < 8


# --- topics and subscriptions


def test_the_names_are_what_terraform_makes():
    names = names_of("render-gpu", prefix="staging-")
    assert vars(names) == {
        "topic": "staging-render-gpu",
        "pull": "staging-render-gpu-pull",
        "push": "staging-render-gpu-push",
        "dead": "staging-render-gpu-dead",
        "dead_pull": "staging-render-gpu-dead-pull",
    }


def test_two_installations_share_a_project_by_their_prefixes(emulated_project):
    for prefix in ("one-", "two-"):
        create_topology(emulated_project, prefix=prefix)
    with (
        closing(PubsubQueue(emulated_project, prefix="one-")) as one,
        closing(PubsubQueue(emulated_project, prefix="two-")) as two,
    ):
        one.publish(TOPIC, Message(job_id="job_1"))
        assert two.receive([TOPIC], wait_seconds=1) is None
        assert received(one) == Message(job_id="job_1")


def test_what_is_made_is_as_it_was_asked_for(emulated_project, subscriber):
    push = PushTarget(
        endpoint="https://worker.example.com/", service_account="push@demo.iam.gserviceaccount.com"
    )
    for _ in range(2):  # what is there stays
        create_topology(emulated_project, push=push)
    names = names_of(TOPIC)
    for name in (names.pull, names.push):
        made = subscriber.get_subscription(subscription=subscription_path(emulated_project, name))
        dead = topic_path(emulated_project, names.dead)
        assert made.dead_letter_policy.dead_letter_topic == dead
        assert made.dead_letter_policy.max_delivery_attempts == 100
        assert made.retry_policy.minimum_backoff.total_seconds() == 10
        assert made.retry_policy.maximum_backoff.total_seconds() == 600
        assert made.ack_deadline_seconds == 60
    assert made.push_config.push_endpoint == push.endpoint
    assert made.push_config.oidc_token.service_account_email == push.service_account
    assert made.push_config.oidc_token.audience == push.endpoint


@pytest.fixture
def pushes() -> Iterator[tuple[str, Queue]]:
    """An address to push to, and what has been pushed there."""
    arrived: Queue[Pushed] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.put(parse_push(dict(self.headers), body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", arrived
        server.shutdown()


def test_what_pubsub_pushes_is_what_was_published(emulated_project, pushes):
    endpoint, arrived = pushes
    create_topology(emulated_project, push=PushTarget(endpoint=endpoint))
    with closing(PubsubQueue(emulated_project)) as queue:
        queue.publish(TOPIC, Message(job_id="job_1", traceparent=TRACE))
    pushed = arrived.get(timeout=20)
    assert pushed.message == Message(job_id="job_1", traceparent=TRACE)
    assert pushed.message_id
    assert pushed.subscription == subscription_path(emulated_project, names_of(TOPIC).push)
