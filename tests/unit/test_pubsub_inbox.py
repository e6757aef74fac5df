"""Handing over what a pull brings: with a Pub/Sub that does what it is told, and counts."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from google.api_core.exceptions import DeadlineExceeded, NotFound

from shared.adapters.gcp.pubsub_inbox import Inbox

GPU, REMOTE = "render-gpu-pull", "render-remote-pull"


class Subscriber:
    """Each pull waits until it is told what to bring."""

    def __init__(self):
        self.pulls = []
        self._changed = threading.Condition()

    def pull(self, *, subscription, max_messages, retry, timeout):
        assert max_messages == 1
        assert retry is None
        assert timeout >= 10
        answer = Future()
        with self._changed:
            self.pulls.append((subscription, answer))
            self._changed.notify_all()
        brought = answer.result(timeout=10)
        return SimpleNamespace(received_messages=[] if brought is None else [brought])

    def the_pull(self, number):
        """The subscription and the answer of a pull, once it is made."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.pulls) > number, timeout=5)
        return self.pulls[number]

    def bring(self, number, what):
        self.the_pull(number)[1].set_result(what)

    def fail(self, number, error):
        self.the_pull(number)[1].set_exception(error)


@pytest.fixture
def subscriber():
    subscriber = Subscriber()
    yield subscriber
    for _, answer in subscriber.pulls:
        if not answer.done():
            answer.set_result(None)


@pytest.fixture
def inbox(subscriber):
    return Inbox(subscriber, lease_seconds=60)


def test_a_pull_goes_on_between_two_calls_that_wait_for_it(subscriber, inbox):
    for _ in range(3):
        assert inbox.take([GPU], wait_seconds=0.05) is None
    subscriber.bring(0, "message")
    assert inbox.take([GPU], wait_seconds=5).received == "message"
    assert len(subscriber.pulls) == 1


def test_nothing_is_pulled_while_nobody_receives(subscriber, inbox):
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(inbox.take, [GPU], wait_seconds=5)
        subscriber.bring(0, "first")
        assert taken.result().received == "first"
    time.sleep(0.05)
    assert len(subscriber.pulls) == 1


def test_an_empty_answer_is_followed_by_another_pull(subscriber, inbox):
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(inbox.take, [GPU], wait_seconds=5)
        subscriber.bring(0, None)
        subscriber.fail(1, DeadlineExceeded("nothing came"))
        subscriber.bring(2, "at last")
        assert taken.result().received == "at last"


def test_a_message_of_another_subscription_is_left_for_who_asks_for_it(subscriber, inbox):
    assert inbox.take([GPU, REMOTE], wait_seconds=0.05) is None
    by_subscription = {subscriber.the_pull(number)[0]: number for number in range(2)}
    subscriber.bring(by_subscription[REMOTE], "for remote")
    assert inbox.take([GPU], wait_seconds=0.1) is None
    arrival = inbox.take([GPU, REMOTE], wait_seconds=5)
    assert (arrival.subscription, arrival.received) == (REMOTE, "for remote")


def test_of_two_threads_one_gets_the_message(subscriber, inbox):
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(inbox.take, [GPU], wait_seconds=0.5) for _ in range(2)]
        subscriber.bring(0, "message")
        taken = [future.result() for future in waiting]
    assert sorted(arrival is None for arrival in taken) == [False, True]


def test_a_message_that_lay_here_past_its_deadline_belongs_to_another(subscriber):
    inbox = Inbox(subscriber, lease_seconds=0.1)
    assert inbox.take([GPU], wait_seconds=0.01) is None
    subscriber.bring(0, "old")
    time.sleep(0.2)
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(inbox.take, [GPU], wait_seconds=5)
        subscriber.bring(1, "new")
        assert taken.result().received == "new"


def test_a_pull_that_fails_is_told_of_once_and_then_made_again(subscriber, inbox):
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(inbox.take, [GPU], wait_seconds=5)
        subscriber.fail(0, NotFound("no such subscription"))
        with pytest.raises(NotFound):
            taken.result()
    with ThreadPoolExecutor(1) as thread:
        taken = thread.submit(inbox.take, [GPU], wait_seconds=5)
        subscriber.bring(1, "message")
        assert taken.result().received == "message"


def test_closing_tells_what_has_come_and_nobody_took(subscriber, inbox):
    assert inbox.take([GPU], wait_seconds=0.05) is None
    subscriber.bring(0, "untaken")
    time.sleep(0.2)  # until its thread has noted it
    assert [arrival.received for arrival in inbox.close()] == ["untaken"]


def test_closing_does_not_wait_for_what_has_not_come(subscriber, inbox):
    assert inbox.take([GPU], wait_seconds=0.05) is None
    assert inbox.close() == []
