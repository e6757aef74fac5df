"""From Hypercorn to the app: what is taken in, what is refused, and what becomes of it when nobody listens."""

import json
import threading

import anyio
import pytest
import trio
import trio.testing
from hypercorn.middleware import TrioWSGIMiddleware

from services.api.http3.bridge import Bridge, never_empty

SCOPE = {
    "type": "http",
    "http_version": "3",
    "method": "POST",
    "path": "/",
    "query_string": b"",
    "headers": [],
}


class Caller:
    """One request; what it is told, and whether it is still there."""

    def __init__(self, *messages, **scope):
        self.scope = SCOPE | scope
        self.told = []
        self._say, self._hear = trio.open_memory_channel(100)
        for message in messages:
            self._say.send_nowait(message)

    async def receive(self):
        return await self._hear.receive()

    async def send(self, message):
        self.told.append(message)

    def leave(self):
        self._say.send_nowait({"type": "http.disconnect"})

    @property
    def status(self):
        return self.told[0]["status"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.told)

    @property
    def error(self):
        return json.loads(self.body)["error"]["code"]


def piece(body, *, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def bridge_to(app, *, threads=2, body_max_bytes=10, body_seconds=5.0):
    call = TrioWSGIMiddleware(never_empty(app), max_body_size=body_max_bytes)
    return Bridge(call, threads=threads, body_max_bytes=body_max_bytes, body_seconds=body_seconds)


def ask(bridge, *callers):
    async def run():
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for caller in callers:
                    nursery.start_soon(bridge, caller.scope, caller.receive, caller.send)

    trio.run(run)


def told_what_came(environ, start_response):
    start_response("200 OK", [])
    body = environ["wsgi.input"].read()
    seen = {name: environ.get(name) for name in ("CONTENT_LENGTH", "QUERY_STRING", "HTTP_X_A")}
    return [json.dumps(seen | {"body": body.decode()}).encode()]


def test_a_body_in_pieces_reaches_the_app_whole_with_its_length():
    caller = Caller(piece(b"one", more=True), piece(b"two"))
    ask(bridge_to(told_what_came), caller)
    assert json.loads(caller.body)["body"] == "onetwo"
    assert json.loads(caller.body)["CONTENT_LENGTH"] == "6"


def test_of_a_body_that_is_too_long_the_app_is_told_the_length_alone():
    caller = Caller(piece(b"x" * 8, more=True), piece(b"x" * 8))
    ask(bridge_to(told_what_came), caller)
    assert json.loads(caller.body)["CONTENT_LENGTH"] == "16"
    assert json.loads(caller.body)["body"] == ""


def test_a_name_with_an_underscore_passes_for_no_other_header():
    caller = Caller(piece(b""), headers=[(b"x_a", b"forged"), (b"x-a", b"true")])
    ask(bridge_to(told_what_came), caller)
    assert json.loads(caller.body)["HTTP_X_A"] == "true"


def test_a_query_that_is_no_text_is_a_query_all_the_same():
    caller = Caller(piece(b""), query_string=b"a=\xff&b=1")
    ask(bridge_to(told_what_came), caller)
    assert json.loads(caller.body)["QUERY_STRING"] == "a=%FF&b=1"


def test_a_body_that_does_not_come_is_408():
    caller = Caller(piece(b"x", more=True))
    ask(bridge_to(told_what_came, body_seconds=0.05), caller)
    assert (caller.status, caller.error) == (408, "body_too_slow")


def test_headers_that_are_too_large_are_431():
    caller = Caller(piece(b""), headers=[(b"x", b"y" * 70_000)])
    ask(bridge_to(told_what_came), caller)
    assert (caller.status, caller.error) == (431, "headers_too_large")


def test_more_than_it_can_take_in_is_refused_with_a_time_to_come_back():
    slow = [Caller(piece(b"x", more=True)) for _ in range(8)]
    late = Caller(piece(b""))
    ask(bridge_to(told_what_came, threads=1, body_seconds=0.2), *slow, late)
    # Which of them came last is for the event loop to say.
    statuses = sorted(caller.status for caller in [*slow, late])
    assert statuses.count(503) == 1
    (refused,) = [caller for caller in [*slow, late] if caller.status == 503]
    assert (b"retry-after", b"5") in refused.told[0]["headers"]


def test_who_leaves_while_waiting_for_a_thread_is_not_served():
    served, first_may_end = [], threading.Event()

    def app(environ, start_response):
        served.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        first_may_end.wait(10)
        return [b"done"]

    first, second = Caller(piece(b""), path="/first"), Caller(piece(b""), path="/second")
    bridge = bridge_to(app, threads=1)

    async def run():
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bridge, first.scope, first.receive, first.send)
                while not served:
                    await trio.sleep(0.01)
                async with trio.open_nursery() as waiting:
                    waiting.start_soon(bridge, second.scope, second.receive, second.send)
                    await trio.testing.wait_all_tasks_blocked()
                    second.leave()
                first_may_end.set()

    trio.run(run)
    assert served == ["/first"]
    assert first.body == b"done"
    assert second.told == []


def test_who_leaves_in_the_middle_ends_the_reply():
    ended = threading.Event()

    def app(_environ, start_response):
        start_response("200 OK", [])
        try:
            while True:
                yield b"more"
        finally:
            ended.set()

    caller = Caller(piece(b""))
    bridge = bridge_to(app)

    async def run():
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bridge, caller.scope, caller.receive, caller.send)
                while len(caller.told) < 3:
                    await trio.sleep(0.01)
                caller.leave()

    trio.run(run)
    assert ended.is_set()


@pytest.mark.parametrize("status", ["204 No Content", "200 OK"])
def test_a_reply_without_a_body_is_a_reply(status):
    def app(_environ, start_response):
        start_response(status, [])
        return []

    caller = Caller(piece(b""))
    ask(bridge_to(app), caller)
    assert (caller.status, caller.body) == (int(status[:3]), b"")


def test_it_is_idle_when_nothing_is_in_work():
    bridge = bridge_to(told_what_came)

    async def run():
        with anyio.fail_after(5):
            await bridge.until_idle()

    trio.run(run)
