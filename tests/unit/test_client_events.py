"""What becomes of a job, told once, however the connection behaves."""

from contextlib import closing
from dataclasses import dataclass, field

import pytest

from services.emulators.serving import serving
from shared.client.errors import CannotReach, NotThere
from shared.client.following import JobChanged, JobEnded, LogLine
from tests.unit.api_under_test import running_api
from tests.unit.client_under_test import (
    Reply,
    a_job,
    client_of,
    no_such,
    refusal,
    scripted,
    sent,
    stream,
)

EVENTS = "/v1/jobs/job_1/events"
JOB = "/v1/jobs/job_1"
DONE = a_job("finished", 100)
DETAILS = ("queue_position", "estimated_seconds_left", "cost_usd")
END = sent("end", DONE, 3)


@pytest.fixture(params=["blocking", "awaiting"])
def kind(request):
    return request.param


def line(number):
    return sent("log", {"line": f"{number}"}, number)


def heard(kind, server, **options):
    with client_of(kind, server.url) as (client, sleeps):
        events = list(client.events("job_1", **options))
    return events, sleeps


def numbers(events):
    return [event.number for event in events if isinstance(event, LogLine)]


def test_news_lines_and_the_end_are_told_in_order(kind):
    whole = stream(sent("job", a_job(), 0), b": alive\n\n", line(1), sent("job", DONE, 1), END)
    with scripted({EVENTS: [whole]}) as server:
        events, _ = heard(kind, server)
        assert server.header("Last-Event-ID") == [None]
    assert [type(event) for event in events] == [JobChanged, LogLine, JobChanged, JobEnded]
    assert events[0].job.progress == 42
    assert events[1] == LogLine(1, "1")
    assert events[-1].job.status == "finished"


def test_a_broken_stream_goes_on_with_the_next_line(kind):
    first = stream(sent("job", a_job(), 0), line(1), line(2), line(3)[:-3])
    # What is repeated is not told again.
    second = stream(sent("job", a_job(), 2), line(2), line(3), END)
    with scripted({EVENTS: [first, second]}) as server:
        events, sleeps = heard(kind, server)
        assert server.header("Last-Event-ID") == [None, "2"]
    assert numbers(events) == [1, 2, 3]
    assert sum(isinstance(event, JobChanged) for event in events) == 1
    assert sleeps.seconds == [1.0]


def test_a_line_not_heard_is_asked_for_even_if_news_of_the_job_counted_it(kind):
    first = stream(sent("job", a_job(), 2))
    with scripted({EVENTS: [first, stream(line(1), line(2), END)]}) as server:
        events, _ = heard(kind, server)
        assert server.header("Last-Event-ID") == [None, None]
    assert numbers(events) == [1, 2]


def test_it_begins_after_the_line_that_is_named(kind):
    with scripted({EVENTS: [stream(line(7), line(8), END)]}) as server:
        events, _ = heard(kind, server, after=7)
        assert server.header("Last-Event-ID") == ["7"]
    assert numbers(events) == [8]


def test_the_server_says_when_to_connect_again(kind):
    script = [stream(b"retry: 2500\n\n", line(1)), refusal(503, "x", Retry_After="9"), stream(END)]
    with scripted({EVENTS: script}) as server:
        _, sleeps = heard(kind, server)
    assert sleeps.seconds == [2.5, 9.0]


def test_a_stream_that_never_says_anything_is_given_up(kind):
    with scripted({EVENTS: [stream()]}) as server:
        with client_of(kind, server.url) as (client, _), pytest.raises(CannotReach, match="early"):
            list(client.events("job_1"))
        assert len(server.asked) == 4


def test_whoever_watches_outlasts_a_restart_of_the_server(kind):
    busy = [refusal(503, "x")] * 9
    with scripted({EVENTS: [stream(line(1)), *busy, stream(line(2), END)]}) as server:
        events, sleeps = heard(kind, server)
    assert numbers(events) == [1, 2]
    assert len(sleeps.seconds) == 10


@pytest.mark.parametrize(
    "answer", [no_such("not_found"), Reply(b"<html>"), stream(sent("job", {"id": "job_1"}))]
)
def test_where_there_are_no_events_the_job_is_polled(kind, answer):
    jobs = [Reply(a_job()), Reply(a_job()), refusal(503, "x"), Reply(DONE)]
    with scripted({EVENTS: [answer], JOB: jobs}) as server:
        events, _ = heard(kind, server)
        assert server.paths() == [EVENTS, JOB, JOB, JOB, JOB]
    assert [type(event) for event in events] == [JobChanged, JobChanged, JobEnded]


def test_an_older_server_that_knows_no_details_is_understood(kind):
    old = {name: it for name, it in DONE.items() if name not in DETAILS}
    with scripted({EVENTS: [no_such("not_found")], JOB: [Reply(old)]}) as server:
        events, _ = heard(kind, server)
    assert events[-1].job.cost_usd is None


def test_no_such_job_is_no_older_server(kind):
    with (
        scripted({EVENTS: [no_such()], JOB: [no_such()]}) as server,
        client_of(kind, server.url) as (client, _),
        pytest.raises(NotThere),
    ):
        list(client.events("job_1"))


def test_what_a_newer_server_sends_is_no_trouble(kind):
    newer = stream(sent("weather", "fine"), sent("end", {**DONE, "mood": "good"}, 0))
    with scripted({EVENTS: [newer]}) as server:
        events, _ = heard(kind, server)
    assert [type(event) for event in events] == [JobEnded]


def test_waiting_gives_the_job_as_it_ended(kind):
    seen = []
    with (
        scripted({EVENTS: [stream(line(1), END)]}) as server,
        client_of(kind, server.url) as (client, _),
    ):
        job = client.wait("job_1", on_event=seen.append)
    assert job.status == "finished"
    assert [type(event) for event in seen] == [LogLine, JobEnded]


@dataclass
class Cutting:
    """The real API; its first stream breaks within an event."""

    app: object
    cut_after: int
    asked: list = field(default_factory=list)

    def __call__(self, environ, start_response):
        reply = self.app(environ, start_response)
        if not environ["PATH_INFO"].endswith("/events"):
            return reply
        self.asked.append(environ.get("HTTP_LAST_EVENT_ID"))
        if len(self.asked) > 1:
            return reply
        with closing(reply):
            return [b"".join(reply)[: self.cut_after]]


@pytest.mark.parametrize("cut_after", [0, 300, 500, 600, 650, 700])
def test_the_real_api_is_followed_over_a_connection_that_breaks(kind, tmp_path, cut_after):
    with running_api(tmp_path) as api, serving(app := Cutting(api.app, cut_after)) as url:
        job_id = api.submit()
        lines = [f"step {n}/9" for n in range(1, 10)]
        api.wiring.store.append_log(job_id, lines, now=api.clock.now)
        api.worker.render_next()
        with client_of(kind, url, api.key) as (client, _):
            events = list(client.events(job_id))
        whole = api.wiring.store.tail_log(job_id, tail=100)
    assert len(app.asked) == 2
    assert [event.line for event in events if isinstance(event, LogLine)] == list(whole)
    assert isinstance(events[-1], JobEnded)
    assert events[-1].job.status == "finished"
