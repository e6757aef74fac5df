"""What the load generator counts with, and that it reads replies as they come."""

import asyncio

import pytest
from peers.dialects import Request, Seen, dialect_of
from peers.load.at_rate import submit_at_rate
from peers.load.connections import Broken, Pool
from peers.load.replies import Reply, body_so_far, dechunked, encoded, reply_in
from peers.load.schedule import Due, Sent, accepted_per_second, arrivals


def test_arrivals_are_evenly_spaced_and_begin_with_the_warm_up():
    due = arrivals(10, seconds=1.0, warm_up_seconds=0.5)
    assert len(due) == 15
    assert [each.is_warm_up for each in due] == [True] * 5 + [False] * 10
    assert due[7].at_seconds == pytest.approx(0.7)


def test_a_latency_counts_from_when_a_request_was_due():
    sent = Sent(Due(1.0, is_warm_up=False), 1.4, 1.5, accepted=True)
    assert sent.latency_seconds == pytest.approx(0.5)
    assert sent.late_seconds == pytest.approx(0.4)


def test_throughput_counts_what_was_accepted_until_the_last_answer():
    schedule = arrivals(10, seconds=1.0, warm_up_seconds=0.2)
    sent = [
        Sent(due, due.at_seconds, due.at_seconds + 0.1, accepted=number % 2 == 0)
        for number, due in enumerate(schedule)
    ]
    assert accepted_per_second(sent, seconds=1.0) == pytest.approx(5.0)
    # Due from 0.2 s on, the last answer that accepts at 1.1 s.
    assert accepted_per_second(sent, seconds=0.5) == pytest.approx(5 / 0.9)
    assert accepted_per_second([], seconds=1.0) == 0.0


def test_a_reply_is_one_when_all_of_it_is_here():
    whole = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"
    assert reply_in(whole[:-1]) is None
    assert reply_in(whole[:20]) is None
    assert reply_in(whole) == Reply(202, b"ok")
    closing = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    assert reply_in(closing) == Reply(204, b"", closes=True)


def test_chunks_are_put_together_as_far_as_they_have_come():
    chunks = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    assert dechunked(chunks) == (b"abcde", True)
    assert dechunked(chunks[:12]) == (b"abc", False)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert reply_in(head + chunks) == Reply(200, b"abcde")
    assert body_so_far(head + chunks[:12]) == b"abc"


def test_a_request_says_how_long_it_is():
    wire = encoded(Request("POST", "/jobs", {"X": "y"}, b"{}"), host="127.0.0.1:1")
    assert wire == (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1:1\r\nX: y\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize(
    ("name", "status", "body", "seen"),
    [
        ("promptreel", 200, b'{"status": "finished"}', Seen.FINISHED),
        ("promptreel", 200, b'{"status": "progress"}', Seen.WAITING),
        ("promptreel", 503, b"{}", Seen.WAITING),
        ("promptreel", 404, b"{}", Seen.UNKNOWN),
        ("bentoml", 200, b'{"status": "in_progress"}', Seen.WAITING),
        ("fastapi", 200, b'{"status": "SUCCESS"}', Seen.FINISHED),
        ("fastapi", 200, b'{"status": "failed"}', Seen.FAILED),
    ],
)
def test_each_service_is_understood(name, status, body, seen):
    assert dialect_of(name).seen(status, body) is seen


def test_a_push_tells_of_its_job():
    dialect = dialect_of("cog", callback_url="http://127.0.0.1:1/")
    assert b"http://127.0.0.1:1/" in dialect.submit("a-1").body
    assert dialect.pushed(b'{"id": "a-1", "status": "succeeded"}') == ("a-1", Seen.FINISHED)


@pytest.fixture
def served():
    """A service that accepts every second job, after a while, and closes the fourth's connection."""
    answered = 0

    async def answer(reader, writer):
        nonlocal answered
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readuntil(b"}")
                answered += 1
                if answered == 4:
                    break
                status = "202 Accepted" if answered % 2 else "429 Too Many Requests"
                await asyncio.sleep(0.02)
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n".encode() + b'{"id": 1}'
                )
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    return answer


def test_an_open_loop_accounts_for_every_request(served):
    async def run():
        server = await asyncio.start_server(served, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        schedule = arrivals(20, seconds=0.25, warm_up_seconds=0.05)
        async with server, Pool("127.0.0.1", port) as pool:
            return await submit_at_rate(
                pool, dialect_of("promptreel"), schedule, name="x", patience_seconds=5
            )

    sent = asyncio.run(run())
    assert [each.accepted for each in sent] == [True, False, True, False, True, False]
    assert [each.broken for each in sent] == [False, False, False, True, False, False]
    assert all(each.latency_seconds > 0 for each in sent)


def test_a_server_that_is_not_there_is_broken():
    async def run():
        async with Pool("127.0.0.1", 1) as pool:
            await pool.ask(Request("GET", "/"))

    with pytest.raises(Broken):
        asyncio.run(run())
