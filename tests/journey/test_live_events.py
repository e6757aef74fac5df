"""A render followed live over HTTP, on connections that break."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.journey.cloud_installation import in_the_cloud
from tests.journey.installation import install, log_of, running_worker, submit
from tests.server_sent_events import Event, events_of, lines_of

SECONDS = 60


@contextmanager
def following(
    client: httpx.Client, job_id: str, *, after: str | None = None
) -> Iterator[Iterator[Event]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    path = f"/v1/jobs/{job_id}/events"
    with client.stream("GET", path, headers=headers, timeout=SECONDS) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/event-stream"
        yield events_of(reply.iter_raw())


def followed_in_pieces(client: httpx.Client, job_id: str, *, events_a_piece: int) -> list[Event]:
    """All events, on a connection that is lost again and again."""
    found: list[Event] = []
    while not found or found[-1].name != "end":
        with following(client, job_id, after=found[-1].id if found else None) as events:
            for number, event in enumerate(events, start=1):
                found.append(event)
                if number == events_a_piece:
                    break
    return found


def assert_whole(events: list[Event], log: str) -> None:
    """Every line once, in order; the job never goes back, and ends with the last event."""
    assert lines_of(events) == log.splitlines()
    jobs = [event.data for event in events if event.name == "job"]
    assert [job["progress"] for job in jobs] == sorted(job["progress"] for job in jobs)
    ids = [int(event.id) for event in events]
    assert ids == sorted(ids)
    assert [event.name for event in events].count("end") == 1
    assert (events[-1].name, events[-1].data["status"]) == ("end", "finished")


def test_a_render_is_followed_from_its_submission_to_its_end(client):
    job_id = submit(client, "a lighthouse, followed")
    with following(client, job_id) as stream:
        events = list(stream)
    assert (events[0].name, events[0].id) == ("job", "0")
    assert_whole(events, log_of(client, job_id))
    assert events[-1].data == client.get(f"/v1/jobs/{job_id}").json()


@pytest.mark.parametrize("events_a_piece", [2, 5])
def test_whoever_loses_the_connection_goes_on_where_it_was(client, events_a_piece):
    job_id = submit(client, "a lighthouse, in pieces")
    events = followed_in_pieces(client, job_id, events_a_piece=events_a_piece)
    assert_whole(events, log_of(client, job_id))


def test_events_come_while_it_renders_and_not_all_at_the_end(tmp_path, demo_model_dir):
    # The shared installation's clips are done before progress is due, once a second.
    longer = install(tmp_path, demo_model_dir, render={"duration_seconds": 5})
    with longer.running(), longer.client() as client:
        job_id = submit(client, "a long walk")
        seen = []
        with following(client, job_id) as events:
            for event in events:
                if event.name == "log":
                    status = client.get(f"/v1/jobs/{job_id}").json()["status"]
                    seen.append(status)
                last = event
        assert "progress" in seen
        assert last.name == "end"


@pytest.mark.usefixtures("pubsub_emulator_host")  # skips where there are none
def test_in_the_cloud_it_is_the_same(installation):
    with (
        in_the_cloud(installation) as (client, cloud),
        running_worker(cloud.config_file, **cloud.environment),
    ):
        job_id = submit(client, "a lighthouse, far away")
        events = followed_in_pieces(client, job_id, events_a_piece=4)
        assert_whole(events, log_of(client, job_id))
