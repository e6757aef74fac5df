"""One trace shows a whole job: from the request, through the queue, into the render process."""

import secrets

import pytest

from services.cli.client_key import client_key
from services.emulators.otlp import otlp_collector
from shared.config import load_config
from tests.journey.installation import (
    install,
    running_api,
    running_worker,
    submit,
    wait_for,
    wait_until_answers,
)

STAGES = ("plan", "keyframes", "generation", "stitch")
PARTS_OF_GENERATION = ("text encoding", "denoising", "decoding", "encoding")
SERVER, PRODUCER, CONSUMER = 2, 4, 5


@pytest.fixture(scope="module")
def traced(tmp_path_factory, demo_model_dir):
    folder = tmp_path_factory.mktemp("traced")
    with otlp_collector() as collector:
        telemetry = {"traces": "otlp", "otlp_endpoint": collector.url}
        installation = install(folder, demo_model_dir, telemetry=telemetry)
        installation.write_config()
        key = client_key(load_config(installation.config_file)).secret
        with (
            running_api(installation.config_file) as api,
            running_worker(installation.config_file),
        ):
            wait_until_answers(installation.url, api)
            with installation.client(key=key) as client:
                yield client, collector


def test_one_trace_holds_the_whole_job(traced):
    client, collector = traced
    trace, callers_span = secrets.token_hex(16), secrets.token_hex(8)
    client.headers["traceparent"] = f"00-{trace}-{callers_span}-01"
    job_id = submit(client, "a red circle")
    wait_for(client, job_id, "finished")
    found = collector.wait_for(trace, "consume render-gpu", "render process", "settle")

    by_id = {span.span_id: span for span in collector.spans if span.trace_id == trace}

    def parent(name):
        above = found[name].parent_id
        return by_id[above].name if above in by_id else above

    assert parent("POST /v1/jobs") == callers_span
    assert parent("publish render-gpu") == "POST /v1/jobs"
    assert parent("consume render-gpu") == "publish render-gpu"
    assert [parent(name) for name in ("render", "upload", "settle")] == ["consume render-gpu"] * 3
    assert parent("render process") == "render"
    assert [parent(name) for name in STAGES] == ["render process"] * len(STAGES)
    assert {parent(name) for name in PARTS_OF_GENERATION} == {"generation"}

    services = {name: found[name].service for name in found}
    assert services["POST /v1/jobs"] == services["publish render-gpu"] == "promptreel-api"
    assert services["consume render-gpu"] == services["upload"] == "promptreel-worker"
    assert {services[name] for name in (*STAGES, *PARTS_OF_GENERATION)} == {"promptreel-render"}
    assert found["POST /v1/jobs"].kind == SERVER
    assert found["publish render-gpu"].kind == PRODUCER
    assert found["consume render-gpu"].kind == CONSUMER
    assert found["consume render-gpu"].attributes["promptreel.outcome"] == "finished"
    assert found["render process"].attributes == {"promptreel.job_id": job_id}
    assert all(span.began_at_ns <= span.ended_at_ns for span in found.values())
    assert not [name for name, span in found.items() if span.failed]


def test_a_job_without_a_callers_trace_has_one_of_its_own(traced):
    client, collector = traced
    client.headers.pop("traceparent", None)
    first, second = submit(client, "a blue square"), submit(client, "a green square")
    wait_for(client, second, "finished")
    wait_for(client, first, "finished")
    traces = {}
    for job_id in (first, second):
        consumed = next(
            span
            for span in collector.spans
            if span.kind == PRODUCER and span.attributes["promptreel.job_id"] == job_id
        )
        traces[job_id] = consumed.trace_id
        assert collector.wait_for(consumed.trace_id, "render process")
        assert collector.trace(consumed.trace_id)["POST /v1/jobs"].parent_id is None
    assert traces[first] != traces[second]


def test_what_ends_when_the_api_is_told_to_stop_is_told(tmp_path, demo_model_dir):
    trace = secrets.token_hex(16)
    with otlp_collector() as collector:
        telemetry = {"traces": "otlp", "otlp_endpoint": collector.url}
        installation = install(tmp_path, demo_model_dir, telemetry=telemetry)
        installation.write_config()
        key = client_key(load_config(installation.config_file)).secret
        with running_api(installation.config_file) as api, installation.client(key=key) as client:
            wait_until_answers(installation.url, api)
            headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
            client.get("/v1/jobs", headers=headers).raise_for_status()
        assert set(collector.trace(trace)) == {"GET /v1/jobs"}


def test_who_asks_for_health_leaves_no_trace(traced):
    client, collector = traced
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
    for path in ("/healthz", "/health", "/readyz", "/metrics"):
        client.get(path, headers=headers).raise_for_status()
    client.get("/v1/jobs", headers=headers).raise_for_status()
    assert set(collector.wait_for(trace, "GET /v1/jobs")) == {"GET /v1/jobs"}
