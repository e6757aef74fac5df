import re

import pytest
import structlog

from services.api.errors import STATUSES, fault_of, status_of
from shared import errors
from shared.errors import Fault, PromptreelError, QueueUnavailable, StoreUnavailable
from tests.unit.api_under_test import PROMPT, assert_error, running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def kinds(root=PromptreelError):
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


LEAVES = [
    kind for kind in kinds() if kind.__module__ == errors.__name__ and not kind.__subclasses__()
]


@pytest.mark.parametrize("kind", LEAVES)
def test_every_lower_error_has_a_status(kind):
    assert kind in STATUSES


def test_a_status_tells_whose_fault_it_is():
    for kind, status in STATUSES.items():
        assert (400 <= status < 500) == (kind.fault is Fault.REQUESTER), kind


def test_a_kind_of_a_known_error_has_its_status():
    class FullStore(StoreUnavailable):
        pass

    assert status_of(FullStore("full")) == 503
    assert status_of(PromptreelError("unknown")) == 500


def test_a_failed_jobs_code_tells_whose_fault_it_was():
    assert fault_of("prompt_refused") is Fault.REQUESTER
    assert fault_of("model_unavailable") is Fault.OPERATOR
    assert fault_of("render_crashed") is Fault.NOBODY
    assert fault_of("worker_lost") is Fault.NOBODY


def test_an_unknown_path_is_404_and_says_where_to_look(api):
    assert_error(api.client.get("/v2/jobs"), 404, "not_found", "/docs")


@pytest.mark.parametrize("path", ["/generate", "/v1/jobs"])
def test_a_wrong_method_is_405_with_the_right_ones(api, path):
    reply = api.client.put(path)
    assert_error(reply, 405, "method_not_allowed", "Allow")
    assert "POST" in reply.headers["Allow"]


def test_a_bug_is_500_and_its_details_stay_in_the_log(api):
    def bug():
        raise RuntimeError("/secret/path of the database")

    api.app.add_url_rule("/bug", "bug", bug)
    with structlog.testing.capture_logs() as lines:
        reply = api.client.get("/bug")
    assert_error(reply, 500, "internal_error", "request_id")
    assert "secret" not in reply.text
    assert any("secret" in str(line.get("exc_info")) for line in lines)


def test_an_operators_error_is_500_and_names_no_path(api):
    def broken():
        raise errors.ModelUnavailable("/models/wan is missing")

    api.app.add_url_rule("/broken", "broken", broken)
    reply = api.client.get("/broken")
    assert_error(reply, 500, "internal_error")
    assert "/models" not in reply.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/jobs"),
        ("POST", "/generate"),
        ("GET", "/v1/jobs/job_1"),
        ("GET", "/v1/jobs/job_1/artifact"),
        ("GET", "/v1/jobs/job_1/logs"),
        ("POST", "/v1/jobs/job_1/cancel"),
        ("GET", "/outputs/job_1"),
    ],
)
def test_a_store_that_does_not_answer_is_503_with_a_time_to_try_again(api, method, path):
    client = api.with_silent("store", StoreUnavailable)
    body = {"json": {"prompt": PROMPT}} if path in ("/v1/jobs", "/generate") else {}
    reply = client.open(path, method=method, **body)
    assert_error(reply, 503, "store_unavailable", "Try again")
    assert int(reply.headers["Retry-After"]) > 0
    assert "SQLITE" not in reply.text


def test_a_queue_that_does_not_answer_loses_no_job(api):
    reply = api.with_silent("queue", QueueUnavailable).post("/v1/jobs", json={"prompt": PROMPT})
    assert reply.status_code == 202
    assert api.wiring.store.get(reply.json["id"]).published_at is None


def test_a_callers_request_id_comes_back(api):
    reply = api.client.get("/v1/jobs/none", headers={"X-Request-ID": "order-17.a:b"})
    assert reply.headers["X-Request-ID"] == "order-17.a:b"
    assert reply.json["error"]["request_id"] == "order-17.a:b"


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "<script>", "ä", 'a"b'])
def test_an_unfit_request_id_is_replaced(api, request_id):
    reply = api.client.get("/healthz", headers={"X-Request-ID": request_id})
    assert re.fullmatch("[0-9a-f]{32}", reply.headers["X-Request-ID"])


def test_every_reply_forbids_guessing_its_type_and_keeping_it(api):
    for reply in (
        api.client.get("/healthz"),
        api.client.get("/none"),
        api.anonymous.get("/v1/jobs/a"),
    ):
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cache-Control"] == "no-store"
