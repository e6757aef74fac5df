import time
from dataclasses import replace

import pytest

from services.api.app import create_app
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile
from shared.errors import StoreUnavailable
from shared.job import Phase
from tests.server_sent_events import events_of, lines_of
from tests.unit.api_under_test import assert_error, meanwhile, running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def one_seat(tmp_path):
    with running_api(tmp_path, server={"threads": 1}) as api:
        yield api


def path_of(job_id):
    return f"/v1/jobs/{job_id}/events"


def said(api, job_id, *lines):
    api.wiring.store.append_log(job_id, lines, now=api.clock.now)


def talkative(api):
    """The id of a finished job that has said three things."""
    job_id = api.finished()
    said(api, job_id, "one", "two", "three")
    return job_id


def told(api, job_id, *, after=None, **headers):
    query = {} if after is None else {"after": after}
    with api.client.get(path_of(job_id), headers=headers, query_string=query) as reply:
        assert reply.status_code == 200, reply.text
        return list(events_of(reply.response))


def texts(events):
    return [line.partition(" ")[2] for line in lines_of(events)]


# --- what is told


def test_a_finished_job_is_told_from_the_beginning_and_ends_at_once(api):
    job_id = talkative(api)
    events = told(api, job_id)
    assert [event.name for event in events] == ["job", "log", "log", "log", "end"]
    assert events[0].data == events[-1].data == api.client.get(f"/v1/jobs/{job_id}").json
    assert lines_of(events) == api.client.get(f"/v1/jobs/{job_id}/logs").json["lines"]


def test_a_stream_is_passed_on_at_once_and_kept_by_nobody(api):
    with api.client.get(path_of(talkative(api))) as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["X-Accel-Buffering"] == "no"
        assert "Content-Length" not in reply.headers


def test_a_job_is_followed_through_its_life(api):
    job_id = api.submit()

    def render():
        job = api.worker.claim_next()
        said(api, job_id, "one", "two")
        token = job.lease.token
        api.wiring.lifecycle.report(job_id, token=token, phase=Phase.GENERATION, fraction=0.5)
        time.sleep(0.7)
        said(api, job_id, "three")
        api.worker.complete(job)

    with api.client.get(path_of(job_id)) as reply:
        stream = events_of(reply.response)
        first = next(stream)
        assert (first.name, first.id, first.data["queue_position"]) == ("job", "0", 1)
        with meanwhile(render):
            events = list(stream)
    assert texts(events) == ["one", "two", "three"]
    jobs = [event.data for event in events if event.name == "job"]
    assert [job["progress"] for job in jobs][-2:] == [45, 100]
    assert events[-1].name == "end"
    assert events[-1].data["status"] == "finished"


def test_whoever_comes_back_gets_what_is_missing(api):
    job_id = talkative(api)
    ids = [event.id for event in told(api, job_id)]
    assert texts(told(api, job_id, **{"Last-Event-ID": ids[1]})) == ["two", "three"]
    assert texts(told(api, job_id, after=ids[2])) == ["three"]
    assert texts(told(api, job_id, **{"Last-Event-ID": ids[3]})) == []
    assert texts(told(api, job_id, **{"Last-Event-ID": "0"})) == ["one", "two", "three"]


def test_a_browser_that_comes_back_asks_at_the_address_it_began_with_and_the_header_counts(api):
    job_id = talkative(api)
    first, *_, last = [event.id for event in told(api, job_id) if event.name == "log"]
    assert texts(told(api, job_id, after=first, **{"Last-Event-ID": last})) == []


BAD_IDS = ["-1", "1.5", "x", "", " ", "1 2", "+1", "1_0", "0x1", "NaN", "1" * 20, "9" * 5000]


@pytest.mark.parametrize("number", BAD_IDS)
def test_what_is_no_id_of_an_event_is_400(api, number):
    path = path_of(talkative(api))
    by_header = api.client.get(path, headers={"Last-Event-ID": number})
    by_query = api.client.get(path, query_string={"after": number})
    for reply, name in ((by_header, "Last-Event-ID"), (by_query, "after")):
        assert_error(reply, 400, "invalid_request", name, "a number")
        assert reply.json["error"]["field"] == name


def test_the_one_that_does_not_count_must_be_an_id_too(api):
    path = path_of(talkative(api))
    reply = api.client.get(path, headers={"Last-Event-ID": "1"}, query_string={"after": "x"})
    assert_error(reply, 400, "invalid_request", "`after`")


def test_an_id_that_no_line_has_had_yet_is_an_id(api):
    assert texts(told(api, talkative(api), after="9" * 19)) == []


# --- seats


def test_who_finds_no_seat_is_told_to_come_back_and_everybody_else_is_served(one_seat):
    api, job_id = one_seat, one_seat.submit()
    with api.client.get(path_of(job_id)) as following:
        next(following.response)
        refused = api.client.get(path_of(job_id))
        assert_error(refused, 503, "no_seat", "Try again")
        assert int(refused.headers["Retry-After"]) > 0
        assert api.client.get(f"/v1/jobs/{job_id}").status_code == 200
    with api.client.get(path_of(job_id)) as again:
        assert again.status_code == 200


def test_a_seat_is_given_back_however_a_stream_ends(one_seat):
    api, job_id = one_seat, talkative(one_seat)
    waiting = api.submit()
    told(api, job_id)  # to its end
    api.client.get(path_of(job_id)).close()  # before its first event
    api.client.head(path_of(job_id)).close()
    api.client.get(path_of("job_unknown"))
    api.client.get(path_of(job_id), query_string={"after": "x"})
    with api.client.get(path_of(waiting)) as reply:
        next(reply.response)  # in the middle
    assert told(api, job_id)[-1].name == "end"


def test_no_seat_is_given_back_twice(tmp_path):
    with running_api(tmp_path, server={"threads": 1}) as api:
        job_id = talkative(api)
        for _ in range(3):
            told(api, job_id)
        room = api.app.extensions["promptreel"].waiting_room
        assert room.take_seat("ada") is not None
        assert room.take_seat("ada") is None


def test_when_the_server_stops_whoever_follows_is_let_go_without_an_end(api):
    room = api.app.extensions["promptreel"].waiting_room
    with api.client.get(path_of(api.submit())) as reply:
        stream = events_of(reply.response)
        next(stream)
        began = time.monotonic()
        room.close()
        assert list(stream) == []
        assert time.monotonic() - began < 5
    assert_error(api.client.get(path_of(api.submit())), 503, "no_seat")


# --- what goes wrong on the way


def test_a_job_that_is_forgotten_meanwhile_has_no_end(one_seat):
    api, job_id = one_seat, one_seat.submit()
    with api.client.get(path_of(job_id)) as reply:
        stream = events_of(reply.response)
        next(stream)
        api.wiring.store.delete(job_id)
        assert list(stream) == []
    assert_error(api.client.get(path_of(job_id)), 404, "job_not_found")


class SilentLog:
    """A store that does not answer as soon as somebody reads a log."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        if name == "read_log":
            raise StoreUnavailable("the database cannot be used (SQLITE_CANTOPEN)")
        return getattr(self._store, name)


def test_while_the_store_is_silent_a_stream_is_cut_and_a_new_one_is_503(api):
    job_id = talkative(api)
    silent = replace(api.wiring, store=SilentLog(api.wiring.store))
    client = create_app(silent, KeyRing(KeyFile(api.key_file))).test_client()
    headers = {"Authorization": f"Bearer {api.key}"}
    with client.get(path_of(job_id), headers=headers) as reply:
        assert [event.name for event in events_of(reply.response)] == ["job"]
    refused = api.with_silent("store", StoreUnavailable).get(path_of(job_id))
    assert_error(refused, 503, "store_unavailable")
