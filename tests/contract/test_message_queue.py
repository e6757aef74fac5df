"""What ``MessageQueue`` promises, whichever adapter carries the messages."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from shared.messages import Message
from shared.ports import Delivery, MessageQueue

TOPIC = "render-gpu"
OTHER = "render-remote"

RECEIVE_AND_NOTHING_ELSE = """
from shared.ports import Delivery
delivery = opened.receive(["render-gpu"], wait_seconds=10)
print(delivery.message.job_id, flush=True)
sys.stdin.read()
"""
RECEIVE_ALL = """
sys.stdin.readline()
while delivery := opened.receive(["render-gpu"], wait_seconds=float(sys.argv[1])):
    opened.acknowledge(delivery)
    print(delivery.message.job_id, flush=True)
"""


def received(queue: MessageQueue, *, wait_seconds: float = 30) -> Delivery:
    delivery = queue.receive([TOPIC], wait_seconds=wait_seconds)
    assert delivery is not None
    return delivery


def nothing_to_receive(queue: MessageQueue, *, wait_seconds: float) -> bool:
    return queue.receive([TOPIC], wait_seconds=wait_seconds) is None


@pytest.fixture
def at_once(queue_under_test) -> float:
    """Waiting this long for what is there is enough."""
    return queue_under_test.at_once_seconds


@pytest.fixture
def holds(message_queue, queue_under_test) -> Callable[[int], bool]:
    """Whether so many messages wait or are in work, as far as the queue can tell."""

    def as_many(number: int) -> bool:
        return message_queue.depth(TOPIC) == (number if queue_under_test.counts_messages else None)

    return as_many


def dead_letters(queue: MessageQueue, *, limit: int = 10) -> Sequence[Delivery]:
    """They are there soon, not at once: a queue gives up a message in its own time."""
    deadline = time.monotonic() + 60
    while not (dead := queue.dead_letters(limit=limit)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return dead


@pytest.fixture
def one_message(message_queue) -> Message:
    message = Message(job_id="job_1", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    message_queue.publish(TOPIC, message)
    return message


def test_a_published_message_arrives_as_it_was_sent(message_queue, one_message):
    delivery = received(message_queue)
    assert delivery.message == one_message
    assert delivery.topic == TOPIC
    assert delivery.delivery_attempt == 1


def test_a_message_survives_closing_and_opening_the_queue(
    message_queue, open_message_queue, one_message
):
    message_queue.close()
    with closing(open_message_queue()) as reopened:
        assert received(reopened).message == one_message


def test_receiving_waits_for_a_message_and_no_longer(message_queue):
    started = time.monotonic()
    assert nothing_to_receive(message_queue, wait_seconds=0.3)
    assert 0.3 <= time.monotonic() - started < 2


def test_a_waiting_receiver_gets_a_message_published_meanwhile(message_queue, open_message_queue):
    with closing(open_message_queue()) as other, ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(other.receive, [TOPIC], wait_seconds=10)
        time.sleep(0.5)
        message_queue.publish(TOPIC, Message(job_id="job_1"))
        assert waiting.result(timeout=1).message.job_id == "job_1"


def test_a_receiver_gets_messages_of_its_topics_only(message_queue, at_once):
    message_queue.publish(OTHER, Message(job_id="job_other"))
    assert nothing_to_receive(message_queue, wait_seconds=at_once)
    delivery = message_queue.receive([TOPIC, OTHER], wait_seconds=10)
    assert (delivery.topic, delivery.message.job_id) == (OTHER, "job_other")


def test_two_receivers_never_hold_the_same_message(
    message_queue, open_message_queue, one_message, at_once
):
    received(message_queue)
    with closing(open_message_queue()) as other:
        assert nothing_to_receive(other, wait_seconds=at_once)


def test_an_acknowledged_message_does_not_come_back(
    message_queue, queue_under_test, one_message, holds
):
    message_queue.acknowledge(received(message_queue))
    assert nothing_to_receive(message_queue, wait_seconds=queue_under_test.visibility_seconds * 1.3)
    assert holds(0)


def test_an_unacknowledged_message_comes_back_at_its_deadline(
    message_queue, queue_under_test, one_message
):
    first = received(message_queue)
    taken_at = time.monotonic()
    second = received(message_queue)
    seconds = time.monotonic() - taken_at
    least, late = queue_under_test.visibility_seconds * 0.8, queue_under_test.late_seconds
    assert least < seconds < queue_under_test.visibility_seconds + late
    assert second.message == one_message
    assert second.delivery_attempt == 2
    assert second.receipt != first.receipt


def test_a_message_of_a_killed_receiver_comes_back(
    message_queue, open_message_queue, start_process, one_message
):
    process = start_process(RECEIVE_AND_NOTHING_ELSE, open_message_queue)
    assert process.stdout.readline() == "job_1\n"
    process.kill()
    # Pub/Sub's emulator notices that a stream has ended when it has lost deliveries to it.
    assert received(message_queue, wait_seconds=60).message == one_message


def test_a_late_acknowledgement_changes_nothing(message_queue, one_message, holds):
    late = received(message_queue)
    current = received(message_queue)
    message_queue.acknowledge(late)
    assert holds(1)
    message_queue.release(current, delay_seconds=0)
    assert received(message_queue).message == one_message


def test_a_late_release_does_not_take_the_message_from_its_receiver(
    message_queue, one_message, at_once
):
    late = received(message_queue)
    received(message_queue)
    message_queue.release(late, delay_seconds=0)
    assert nothing_to_receive(message_queue, wait_seconds=at_once)


def test_an_acknowledgement_may_be_repeated(message_queue, one_message, holds):
    delivery = received(message_queue)
    message_queue.acknowledge(delivery)
    message_queue.acknowledge(delivery)
    assert holds(0)


def test_extending_keeps_a_message_from_others_past_its_first_deadline(
    message_queue, queue_under_test, one_message
):
    delivery = received(message_queue)
    time.sleep(queue_under_test.visibility_seconds * 0.6)
    message_queue.extend(delivery)
    assert nothing_to_receive(message_queue, wait_seconds=queue_under_test.visibility_seconds * 0.5)
    assert received(message_queue).delivery_attempt == 2


def test_a_released_message_comes_back_after_the_delay_asked_for(
    message_queue, queue_under_test, one_message
):
    message_queue.release(received(message_queue), delay_seconds=0.5)
    released_at = time.monotonic()
    received(message_queue)
    assert 0.4 < time.monotonic() - released_at < 1 + queue_under_test.late_seconds


def test_a_message_released_without_delay_comes_back_at_once(message_queue, one_message, at_once):
    message_queue.release(received(message_queue), delay_seconds=0)
    assert received(message_queue, wait_seconds=at_once).delivery_attempt == 2


def test_the_backoff_grows_with_every_delivery(message_queue, queue_under_test, one_message):
    waits = []
    for _ in range(2):
        message_queue.release(received(message_queue))
        started = time.monotonic()
        delivery = received(message_queue)
        waits.append(time.monotonic() - started)
        message_queue.release(delivery, delay_seconds=0)
    first, third = waits
    assert first >= queue_under_test.first_backoff_seconds * 0.8
    assert third > max(first * 1.5, queue_under_test.backoff_min_seconds)
    assert third < queue_under_test.backoff_max_seconds + queue_under_test.late_seconds


def test_a_message_delivered_too_often_becomes_a_dead_letter(
    message_queue, queue_under_test, one_message, at_once, holds
):
    for attempt in range(1, queue_under_test.max_deliveries + 1):
        delivery = received(message_queue)
        assert delivery.delivery_attempt == attempt
        if attempt == queue_under_test.max_deliveries:
            assert not message_queue.dead_letters(limit=10)
        message_queue.release(delivery, delay_seconds=0)
    assert nothing_to_receive(message_queue, wait_seconds=at_once)
    (dead,) = dead_letters(message_queue)
    assert dead.message == one_message
    assert dead.topic == TOPIC
    assert holds(0)


def test_a_dead_letter_stays_until_it_is_acknowledged(
    message_queue, open_message_queue, queue_under_test, one_message, at_once
):
    for _ in range(queue_under_test.max_deliveries):
        message_queue.release(received(message_queue), delay_seconds=0)
    assert nothing_to_receive(message_queue, wait_seconds=at_once)
    assert dead_letters(message_queue)
    message_queue.close()
    with closing(open_message_queue()) as reopened:
        (dead,) = dead_letters(reopened)
        reopened.acknowledge(dead)
    with closing(open_message_queue()) as reopened:
        assert not reopened.dead_letters(limit=10)


def test_an_unreadable_message_is_put_aside_and_blocks_nobody(
    message_queue, queue_under_test, at_once, holds
):
    for data in (b"\xff\xfe", b"[]", b'{"job_id": 7}', b'{"job_id": "\\ud800"}'):
        queue_under_test.publish_bytes(message_queue, TOPIC, data)
    message_queue.publish(TOPIC, Message(job_id="job_1"))
    delivery = received(message_queue, wait_seconds=at_once)
    assert delivery.message.job_id == "job_1"
    assert holds(1)
    message_queue.release(delivery, delay_seconds=0)
    assert received(message_queue, wait_seconds=at_once).message.job_id == "job_1"


def test_unreadable_messages_do_not_hide_dead_letters(message_queue, queue_under_test, at_once):
    for _ in range(3):
        queue_under_test.publish_bytes(message_queue, TOPIC, b"not ours")
    message_queue.publish(TOPIC, Message(job_id="job_1"))
    for _ in range(queue_under_test.max_deliveries):
        message_queue.release(received(message_queue), delay_seconds=0)
    assert nothing_to_receive(message_queue, wait_seconds=at_once)
    assert [dead.message.job_id for dead in dead_letters(message_queue, limit=2)] == ["job_1"]


def test_the_depth_counts_what_waits_and_what_is_in_work(message_queue, holds):
    for number in range(3):
        message_queue.publish(TOPIC, Message(job_id=f"job_{number}"))
    message_queue.publish(OTHER, Message(job_id="job_other"))
    received(message_queue)
    assert holds(3)


def test_many_threads_receive_each_message_once(message_queue, at_once):
    sent = [f"job_{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda name: message_queue.publish(TOPIC, Message(job_id=name)), sent))

        def receive_all(_thread: int) -> list[str]:
            got = []
            while delivery := message_queue.receive([TOPIC], wait_seconds=0.2 + at_once):
                got.append(delivery.message.job_id)
                message_queue.acknowledge(delivery)
            return got

        got = [name for names in threads.map(receive_all, range(8)) for name in names]
    assert sorted(got) == sorted(sent)


def test_two_processes_receive_each_message_once(
    message_queue, open_message_queue, start_process, at_once
):
    sent = [f"job_{number}" for number in range(40)]
    for name in sent:
        message_queue.publish(TOPIC, Message(job_id=name))
    receivers = [
        start_process(RECEIVE_ALL, open_message_queue, str(0.3 + at_once)) for _ in range(2)
    ]
    for receiver in receivers:
        receiver.stdin.write("go\n")
        receiver.stdin.flush()
    got = [name for receiver in receivers for name in receiver.communicate()[0].split()]
    assert [receiver.returncode for receiver in receivers] == [0, 0]
    assert sorted(got) == sorted(sent)


def test_the_queue_answers_a_ping(message_queue):
    message_queue.ping()
