import pytest

from shared.errors import QueueUnavailable, StoreUnavailable
from tests.unit.api_under_test import running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def test_a_process_that_answers_is_alive(api):
    assert api.anonymous.get("/healthz").json == {"ok": True}


def test_it_is_alive_even_if_nothing_behind_it_is(api):
    assert api.with_silent("store", StoreUnavailable).get("/healthz").status_code == 200


def test_with_store_and_queue_it_is_ready(api):
    reply = api.anonymous.get("/readyz")
    assert reply.status_code == 200
    assert reply.json == {"status": "ready", "checks": {"store": "ok", "queue": "ok"}}


@pytest.mark.parametrize(
    ("port", "other", "error"),
    [("store", "queue", StoreUnavailable), ("queue", "store", QueueUnavailable)],
)
def test_without_one_of_them_it_is_not_ready_and_says_which(api, port, other, error):
    reply = api.with_silent(port, error).get("/readyz")
    assert reply.status_code == 503
    assert reply.json["status"] == "unavailable"
    assert reply.json["checks"][other] == "ok"
    assert "SQLITE_CANTOPEN" in reply.json["checks"][port]
    assert reply.headers["Retry-After"]


def test_the_metrics_tell_what_is_there_right_now(api):
    api.submit()
    api.submit()
    api.finished()
    api.worker.beat(model_loaded=True)
    reply = api.anonymous.get("/metrics")
    assert reply.status_code == 200
    assert reply.content_type.startswith("text/plain; version=")
    for line in (
        'promptreel_jobs{status="queued"} 2.0',
        'promptreel_jobs{status="finished"} 1.0',
        'promptreel_jobs{status="failed"} 0.0',
        'promptreel_queue_depth{topic="render-gpu"} 2.0',
        'promptreel_queue_depth{topic="render-remote"} 0.0',
        'promptreel_workers{model_loaded="true"} 1.0',
        'promptreel_workers{model_loaded="false"} 0.0',
        'promptreel_workers_in_state{state="idle"} 1.0',
        'promptreel_workers_in_state{state="loading"} 0.0',
        'promptreel_workers_in_state{state="busy"} 0.0',
        'promptreel_up{port="store"} 1.0',
        'promptreel_jobs_submitted_total{model="wan2.1-demo"} 3.0',
    ):
        assert line in reply.text.splitlines()


def test_the_metrics_are_served_when_the_store_is_not(api):
    reply = api.with_silent("store", StoreUnavailable).get("/metrics")
    assert reply.status_code == 200
    assert 'promptreel_up{port="store"} 0.0' in reply.text
    assert 'promptreel_up{port="queue"} 1.0' in reply.text
    assert "promptreel_jobs{" not in reply.text
