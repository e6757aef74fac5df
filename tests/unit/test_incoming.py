"""Bodies that come slowly, and many of them: what is waited for, and what is not."""

import io
import threading

import pytest

from services.api.incoming import IncomingBodies, incoming_bodies
from services.api.outgoing import OutgoingFiles
from shared.errors import BodyTooSlow, TooManyRequests
from tests.unit.api_under_test import PROMPT, assert_error, running_api


class Clock:
    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


class Sending:
    """A body of which each block takes its time."""

    def __init__(self, clock, *, blocks, seconds_each, size=1024):
        self._clock, self._seconds_each = clock, seconds_each
        self._blocks = iter([b"x" * size] * blocks)

    def read(self, _size):
        self._clock.seconds += self._seconds_each
        return next(self._blocks, b"")


class Silent:
    """A body that does not come until it is let go."""

    def __init__(self):
        self.asked, self._go = threading.Event(), threading.Event()

    def read(self, _size):
        self.asked.set()
        assert self._go.wait(20)
        return b""

    def let_go(self):
        self._go.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def bodies(clock):
    return IncomingBodies(at_once=3, at_once_per_sender=2, clock=clock)


@pytest.fixture
def silent(bodies):
    """Has somebody's body not come; ends when the test does."""
    begun = []

    def begin(sender):
        stream = Silent()
        thread = threading.Thread(
            target=lambda: bodies.receive(stream, sender=sender, most_bytes=100).close()
        )
        thread.start()
        begun.append((stream, thread))
        assert stream.asked.wait(20)
        return stream

    yield begin
    for stream, thread in begun:
        stream.let_go()
        thread.join()


def receive(bodies, stream, *, sender="ada", most_bytes=10**6):
    with bodies.receive(stream, sender=sender, most_bytes=most_bytes) as body:
        return body.read()


def test_what_is_sent_is_what_is_received(bodies):
    content = bytes(range(256)) * 40
    assert receive(bodies, io.BytesIO(content)) == content
    assert receive(bodies, io.BytesIO(b"")) == b""


def test_of_what_is_too_much_one_byte_more_is_taken(bodies):
    stream = io.BytesIO(b"x" * 5000)
    assert len(receive(bodies, stream, most_bytes=2000)) == 2001
    assert stream.tell() == 2001


def test_a_large_body_may_take_its_time_and_a_trickle_may_not(bodies, clock):
    assert len(receive(bodies, Sending(clock, blocks=100, seconds_each=1))) == 100 * 1024
    with pytest.raises(BodyTooSlow):
        receive(bodies, Sending(clock, blocks=100, seconds_each=30))
    with pytest.raises(BodyTooSlow):
        receive(bodies, Sending(clock, blocks=100, seconds_each=5, size=1))


def test_who_was_too_slow_gives_the_place_back(bodies, clock):
    for _ in range(5):
        with pytest.raises(BodyTooSlow):
            receive(bodies, Sending(clock, blocks=100, seconds_each=30))
    assert receive(bodies, io.BytesIO(b"x")) == b"x"


def test_whose_bodies_do_not_come_sends_no_more_and_everybody_else_does(bodies, clock, silent):
    silent("ada")
    silent("ada")
    clock.seconds += 2
    with pytest.raises(TooManyRequests) as refused:
        receive(bodies, io.BytesIO(b"x"), sender="ada")
    assert refused.value.retry_after_seconds >= 1
    assert receive(bodies, io.BytesIO(b"x"), sender="bob") == b"x"


def test_there_is_an_end_to_how_many_come_at_once(bodies, clock, silent):
    for sender in ("ada", "ada", "bob"):
        stream = silent(sender)
    clock.seconds += 2
    with pytest.raises(TooManyRequests):
        receive(bodies, io.BytesIO(b"x"), sender="eve")
    stream.let_go()
    clock.seconds -= 2
    assert receive(bodies, io.BytesIO(b"x"), sender="eve") == b"x"


def test_many_who_send_at_once_wait_for_each_other_and_none_is_refused():
    bodies = incoming_bodies(threads=4)
    refused, received = [], []

    def send():
        try:
            received.append(receive(bodies, io.BytesIO(b"x" * 10_000)))
        except TooManyRequests as error:
            refused.append(error)

    threads = [threading.Thread(target=send) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(received), refused) == (40, [])


# --- as a caller sees it


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    # With room for two files at once, and for one to each address.
    with running_api(folder, generate={"wait_seconds": 0.1}, server={"threads": 2}) as api:
        yield api


@pytest.mark.parametrize("path", ["/v1/jobs", "/generate", "/v1/videos", "/api/v1/generations"])
def test_a_body_that_is_shorter_than_it_was_said_to_be_is_408_and_no_job(api, path):
    before = api.jobs
    reply = api.client.post(
        path,
        input_stream=io.BytesIO(b'{"prompt": "a cat"}'),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "100", "wsgi.input_terminated": True},
    )
    assert reply.status_code == 408
    assert api.jobs == before


def test_who_may_not_send_is_told_so_before_anything_is_read(api):
    class Untouched(io.BytesIO):
        def read(self, *_):
            raise AssertionError("it was read")

    refused = api.anonymous.post(
        "/v1/jobs", input_stream=Untouched(b"x"), content_length=1, json=None
    )
    assert_error(refused, 401, "unauthenticated")


def test_a_file_goes_to_so_many_at_once_and_who_has_it_makes_room(api):
    link = api.link(api.finished())
    first = api.anonymous.get(link, buffered=False)
    refused = api.anonymous.get(link)
    assert_error(refused, 503, "no_seat", "Try again")
    assert refused.headers["Retry-After"] == "5"
    assert api.client.post("/v1/jobs", json={"prompt": PROMPT}).status_code == 202
    first.close()
    with api.anonymous.get(link) as again:
        assert again.status_code == 200


def test_one_address_does_not_take_all_the_room_there_is_for_files():
    files = OutgoingFiles(at_once=4, at_once_per_address=3)
    over = [files.begin("198.51.100.1") for _ in range(3)]
    assert all(over)
    assert files.begin("198.51.100.1") is None
    theirs = files.begin("198.51.100.2")
    assert theirs is not None
    assert files.begin("198.51.100.3") is None
    over[0]()
    assert files.begin("198.51.100.1") is not None
