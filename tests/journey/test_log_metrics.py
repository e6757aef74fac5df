"""The log-based metrics of terraform/log_metrics.yaml, run against what the services really print."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from services.cli.client_key import client_key
from shared.config import load_config
from shared.prices import L4_PRICE
from tests.journey.installation import (
    install,
    running_api,
    running_program,
    submit,
    wait_for,
    wait_until_answers,
)
from tests.logging_query import as_entry, extract, parse

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
METRICS = yaml.safe_load((TERRAFORM / "log_metrics.yaml").read_text())
RUNBOOK = (ROOT / "docs" / "operate.md").read_text()
QUERIES = dict(
    re.findall(
        r"^### ([^\n]+)\n\n```logging\n(.+?)\n```",
        RUNBOOK,
        flags=re.MULTILINE | re.DOTALL,
    )
)
OWN_LINES = (
    'resource.labels.service_name=~"^promptreel-[a-z-]+$"'
    ' OR resource.labels.worker_pool_name=~"^promptreel-[a-z-]+$"'
)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """What Cloud Logging would have of an API and a worker that meet all there is to count."""
    folder = tmp_path_factory.mktemp("logged")
    model_dir = folder / "model"
    model_dir.mkdir()
    (model_dir / "device").write_text(L4_PRICE.device)
    installation = install(folder, model_dir, gcp={"project": "demo-project"})
    installation.write_config()
    key = client_key(load_config(installation.config_file)).secret
    worker = [str(Path(__file__).with_name("scripted_worker.py"))]
    with (
        running_api(installation.config_file) as api,
        running_program(worker, installation.config_file, name="worker"),
    ):
        wait_until_answers(installation.url, api)
        with installation.client(key=key) as client:
            _live_through_everything(client)
    return [
        *_entries(folder / "api.log", "promptreel-api"),
        *_entries(folder / "worker.log", "promptreel-gpu-worker"),
    ]


def _live_through_everything(client):
    client.headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
    for prompt, end in (("ok", "finished"), ("ok", "finished"), ("refuse", "failed")):
        wait_for(client, submit(client, prompt), end)
    wait_for(client, submit(client, "crash"), "failed")
    stopped = submit(client, "slow")
    wait_for(client, stopped, "started", "progress")
    client.post(f"/v1/jobs/{stopped}/cancel").raise_for_status()
    wait_for(client, stopped, "canceled")
    # Nobody makes pictures here.
    assert client.post("/api/v1/generations", json={"prompt": "a boat"}).is_server_error


def _entries(log, service_name):
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [as_entry(line, service_name=service_name) for line in lines]


def counted(entries, name):
    """The values and the labels of each entry that the metric counts."""
    metric = METRICS[name]
    test = parse(f"({OWN_LINES}) AND {metric['filter']}")
    return [
        (
            extract(f"EXTRACT({metric['value']})", entry) if "value" in metric else 1,
            {
                label: extract(f"EXTRACT({field})", entry)
                for label, field in metric["labels"].items()
            },
        )
        for entry in entries
        if test(entry)
    ]


def payloads(entries, message):
    return [it["jsonPayload"] for it in entries if it["jsonPayload"]["message"] == message]


def by(entries, name, label):
    return Counter(labels[label] for _, labels in counted(entries, name))


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_finds_its_lines_and_its_values(entries, name):
    found = counted(entries, name)
    assert found
    for value, labels in found:
        assert isinstance(value, int | float)
        assert value >= 0
        assert all(isinstance(label, str | int | None) for label in labels.values())


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_does_not_count_what_others_print(entries, name):
    strangers = [
        {**entry, "resource": {"type": "cloud_run_revision", "labels": {"service_name": other}}}
        for entry in entries
        for other in ("shop", "my-promptreel-api", "promptreel2-api")
    ]
    assert not counted(strangers, name)


@pytest.mark.parametrize("name", METRICS)
def test_every_label_is_told_at_least_once(entries, name):
    for label in METRICS[name]["labels"]:
        assert any(labels[label] is not None for _, labels in counted(entries, name)), label


def test_jobs_are_counted_by_how_they_ended(entries):
    assert by(entries, "jobs_ended", "outcome") == {"finished": 2, "failed": 2, "canceled": 1}
    assert by(entries, "jobs_ended", "error_code") == {
        "prompt_refused": 1,
        "render_crashed": 1,
        None: 3,
    }


def test_what_is_tried_again_is_counted_by_why(entries):
    assert by(entries, "retries", "code") == {"render_crashed": 2}
    # Three that crashed, not the one that ended with its worker.
    assert len(counted(entries, "render_process_ends")) == 3


def test_each_job_has_waited_once_however_often_it_was_claimed(entries):
    assert len(counted(entries, "queue_seconds")) == 5


def test_what_finished_has_its_times_and_its_cost(entries):
    made = counted(entries, "generation_seconds")
    assert (
        len(made) == len(counted(entries, "job_seconds")) == len(counted(entries, "cost_usd")) == 2
    )
    dollars = sum(cost for cost, _ in counted(entries, "cost_usd"))
    seconds = sum(value for value, _ in made)
    assert dollars == pytest.approx(seconds * L4_PRICE.usd_a_second, abs=1e-5)


def test_a_worker_tells_its_cold_start_once(entries):
    ((seconds, labels),) = counted(entries, "cold_start_seconds")
    assert 0 < seconds < 60
    assert labels == {"model": "wan2.1-demo", "device": L4_PRICE.device}


def test_a_servers_fault_is_counted_by_its_route(entries):
    assert by(entries, "request_errors", "route") == {"/api/v1/generations": 1}
    assert by(entries, "request_seconds", "route")["/v1/jobs"] == 5


def test_the_lines_of_one_job_are_found_by_its_trace(entries):
    told = [entry for entry in entries if entry.get("trace")]
    assert {entry["trace"] for entry in told} >= {f"projects/demo-project/traces/{TRACE}"}
    for message in ("request", "job accepted", "job claimed", "job ended"):
        assert any(
            entry["jsonPayload"]["message"] == message and entry["trace"].endswith(TRACE)
            for entry in told
        ), message


@pytest.mark.parametrize("heading", QUERIES)
def test_a_query_of_the_runbook_finds_what_its_heading_says(entries, heading):
    (end,) = [line for line in payloads(entries, "job ended") if line["outcome"] == "canceled"]
    query = QUERIES[heading]
    for word, said in {
        "JOB_ID": end["job_id"],
        "projects/PROJECT": "projects/demo-project",
        "TRACE_ID": TRACE,
        "PROMPT_HASH": end["prompt_hash"],
        ">60": ">=0",  # nobody waits that long in a test
    }.items():
        query = query.replace(word, said)
    assert [entry for entry in entries if parse(query)(entry)]


def test_the_runbook_finds_a_jobs_whole_life(entries):
    assert len(QUERIES) == RUNBOOK.count("```logging")
    (end,) = [line for line in payloads(entries, "job ended") if line["outcome"] == "canceled"]
    query = parse(QUERIES["Everything about one job"].replace("JOB_ID", end["job_id"]))
    told = [entry["jsonPayload"]["message"] for entry in entries if query(entry)]
    assert {"job accepted", "job claimed", "cancel requested", "job ended"} <= set(told)


def test_every_line_says_what_each_transition_is_to_say(entries):
    lines = [entry["jsonPayload"] for entry in entries]
    told = [
        line for line in lines if line["message"] in {"job accepted", "job claimed", "job ended"}
    ]
    assert len(told) >= 15
    for line in told:
        assert {"job_id", "request_id", "outcome", "prompt_hash", "trace"} <= line.keys()
        assert "generation_time_seconds" in line
    ends = [line for line in told if line["message"] == "job ended"]
    assert len({line["job_id"] for line in ends}) == len(ends) == 5
