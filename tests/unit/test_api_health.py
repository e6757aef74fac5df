import pytest

from shared.errors import StoreUnavailable
from tests.unit.api_under_test import running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def health(api):
    reply = api.anonymous.get("/health")
    assert reply.status_code == 200
    return reply.json


def test_a_worker_with_its_model_loaded_is_healthy(api):
    api.worker.beat(model_loaded=True)
    assert health(api) == {
        "status": "healthy",
        "model_loaded": True,
        "gpu": "NVIDIA L4",
        "workers": 1,
        "jobs_queued": 0,
        "jobs_running": 0,
        "message": "1 of 1 live workers have their model loaded.",
    }


def test_a_worker_that_still_loads_is_degraded(api):
    api.worker.beat(model_loaded=False)
    report = health(api)
    assert (report["status"], report["model_loaded"], report["gpu"]) == ("degraded", False, None)
    assert "loading" in report["message"]


def test_no_worker_is_degraded_because_jobs_are_kept(api):
    api.submit()
    report = health(api)
    assert (report["status"], report["workers"], report["jobs_queued"]) == ("degraded", 0, 1)
    assert "No worker is running" in report["message"]


def test_a_worker_that_went_silent_is_not_counted(api):
    api.worker.beat(model_loaded=True)
    api.clock.advance(3 * 5 + 1)
    assert health(api)["model_loaded"] is False


def test_running_jobs_are_counted(api):
    api.submit()
    api.worker.claim_next()
    report = health(api)
    assert (report["jobs_queued"], report["jobs_running"]) == (0, 1)


def test_a_store_that_does_not_answer_is_unhealthy(api):
    reply = api.with_silent("store", StoreUnavailable).get("/health")
    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert reply.json["status"] == "unhealthy"
    assert reply.json["jobs_queued"] is None
    assert "job store" in reply.json["message"]
