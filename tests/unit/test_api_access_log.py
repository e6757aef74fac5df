import pytest
import structlog
from prometheus_client.exposition import generate_latest

from tests.unit.api_under_test import PROMPT, meanwhile, running_api


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def lines():
    with structlog.testing.capture_logs() as captured:
        yield captured


def requests(lines):
    return [line for line in lines if line["event"] == "request"]


def test_a_request_is_one_line(api, lines):
    job_id = api.submit()
    api.client.get(f"/v1/jobs/{job_id}")
    accepted, read = requests(lines)
    assert accepted["method"] == "POST"
    assert accepted["route"] == "/v1/jobs"
    assert accepted["status"] == 202
    assert accepted["owner"] == "ada"
    assert read["route"] == "/v1/jobs/<job_id>"
    assert 0 <= read["seconds"] < 5


def test_a_refused_request_is_a_line_too(api, lines):
    api.anonymous.get("/v1/jobs/job_1")
    api.client.get("/none")
    assert [(line["status"], line["owner"]) for line in requests(lines)] == [
        (401, None),
        (404, None),
    ]


def test_no_line_holds_a_key_a_query_or_a_prompt(api, lines):
    job_id = api.finished()
    link = api.link(job_id)
    api.anonymous.get(link).close()
    api.client.post("/generate", json={"prompt": PROMPT, "resolution": "8k"})
    text = str(lines)
    assert job_id in text
    for secret in (api.key, api.key.split("_", 2)[2], link.partition("signature=")[2], PROMPT):
        assert secret not in text


def test_a_generation_is_told_with_its_outcome_and_its_time(api, lines):
    with meanwhile(api.worker.render_next):
        api.client.post("/generate", json={"prompt": PROMPT})
    (told,) = [line for line in lines if line["event"] == "generation answered"]
    assert told["outcome"] == "finished"
    assert told["generation_time_seconds"] == 1.5
    assert told["prompt_hash"]


def test_a_key_is_no_name_for_a_request(api, lines):
    reply = api.client.get("/v1/jobs", headers={"X-Request-ID": api.key})
    assert reply.headers["X-Request-ID"]
    assert api.key not in f"{reply.headers}{lines}"


def test_what_is_logged_for_a_request_names_it_and_the_next_one_starts_clean(api):
    seen = []
    api.app.add_url_rule(
        "/look", "look", lambda: seen.append(structlog.contextvars.get_contextvars()) or "ok"
    )
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    api.client.get(
        "/look", headers={"X-Request-ID": "a", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert seen == [{"request_id": "a", "trace": trace}]
    assert "request_id" not in structlog.contextvars.get_contextvars()


def test_a_job_continues_its_callers_trace(api):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    job_id = api.client.post("/v1/jobs", json={"prompt": PROMPT}, headers=headers).json["id"]
    assert api.wiring.store.get(job_id).traceparent.startswith(f"00-{trace}-")


def test_requests_are_counted_by_names_of_our_own(api):
    api.submit()
    api.client.get("/v1/jobs/job_1")
    api.client.get("/v1/jobs/job_2")
    api.client.open("/anything", method="BREW")
    text = generate_latest(api.wiring.metrics.registry).decode()
    counted = 'promptreel_http_requests_total{{method="{}",route="{}",status="{}"}} {}'
    assert counted.format("POST", "/v1/jobs", 202, 1.0) in text
    assert counted.format("GET", "/v1/jobs/<job_id>", 404, 2.0) in text
    assert counted.format("other", "unmatched", 404, 1.0) in text
    assert 'promptreel_http_request_seconds_count{method="POST",route="/v1/jobs"} 1.0' in text
