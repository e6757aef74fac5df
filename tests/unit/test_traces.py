"""Traces: nothing where they are off, nothing secret where they are on."""

import subprocess
import sys
from contextlib import closing

import pytest
import yaml
from pydantic import ValidationError

from services.emulators.gcs import gcs_server
from services.emulators.otlp import otlp_collector
from shared.config import load_config
from shared.config_sections import Telemetry
from shared.errors import ConfigurationError, JobNotFound
from shared.telemetry import trace_id, traces_of

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
SECRET = "pr_4f2a_S3cretS3cret-S3cret_S3cret"


@pytest.fixture
def collector():
    with otlp_collector() as collector:
        yield collector


def to(collector, **section):
    return Telemetry(traces="otlp", otlp_endpoint=collector.url, **section)


def test_off_costs_no_import_and_no_thread(tmp_path):
    (tmp_path / "promptreel.yaml").write_text("data_dir: state\n")
    program = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from shared.config import load_config\n"
        "from shared.wiring import wire\n"
        f"wiring = wire(load_config(Path({str(tmp_path / 'promptreel.yaml')!r})))\n"
        "with wiring.traces.span('work', parent=None): pass\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "wiring.close()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_off_every_trace_is_continued_all_the_same():
    traces = traces_of(Telemetry(), service="api", project=None)
    span = traces.begin("work", parent=PARENT)
    assert trace_id(span.traceparent) == trace_id(PARENT)
    assert span.traceparent != PARENT


def test_a_span_arrives_with_its_service_and_its_parent(collector):
    with (
        closing(traces_of(to(collector), service="api", project="demo-project")) as traces,
        traces.span("outer", parent=PARENT) as outer,
    ):
        traces.begin("inner", parent=outer.traceparent, began_at_ns=1_000).end()
    found = collector.trace("a" * 32)
    assert found["outer"].parent_id == "b" * 16
    assert found["inner"].parent_id == found["outer"].span_id
    assert found["inner"].began_at_ns == 1_000
    assert found["outer"].service == "promptreel-api"
    assert found["outer"].resource["gcp.project_id"] == "demo-project"


def test_an_error_is_told_by_its_code_alone(collector):
    with closing(traces_of(to(collector), service="api", project=None)) as traces:
        with pytest.raises(JobNotFound), traces.span("ours", parent=PARENT):
            raise JobNotFound
        with pytest.raises(OSError, match=SECRET), traces.span("theirs", parent=PARENT):
            raise OSError(f"cannot open /data/{SECRET}")
    found = collector.trace("a" * 32)
    assert found["ours"].failed
    assert found["ours"].attributes == {"error.type": "job_not_found"}
    assert found["theirs"].attributes == {"error.type": "OSError"}
    assert "cannot open" not in found["theirs"].text


def test_a_span_keeps_only_what_it_may_say(collector):
    told = {
        "promptreel.job_id": "job_1",
        "promptreel.model": f"model?signature={SECRET}",
        "promptreel.attempt": 2,
        "promptreel.outcome": None,
        "prompt": "an otter",
        "http.url": "https://host/?key=x",
    }
    with closing(traces_of(to(collector), service="api", project=None)) as traces:
        traces.begin("work", parent=PARENT, attributes=told).end()
    assert collector.trace("a" * 32)["work"].attributes == {
        "promptreel.job_id": "job_1",
        "promptreel.model": "model?signature=[redacted]",
        "promptreel.attempt": 2,
    }


def test_processes_keep_the_same_share_of_traces_whatever_a_caller_asks_for(collector):
    parents = [f"00-{'a' * 16}{number:016x}-{'b' * 16}-01" for number in range(0, 2**64, 2**58)]
    for service in ("api", "worker"):
        kept = traces_of(to(collector, sample_ratio=0.25), service=service, project=None)
        with closing(kept) as traces:
            for parent in parents:
                traces.begin("work", parent=parent).end()
    by_service = {
        service: sorted(span.trace_id for span in collector.spans if span.service == service)
        for service in ("promptreel-api", "promptreel-worker")
    }
    assert by_service["promptreel-api"] == by_service["promptreel-worker"]
    assert len(by_service["promptreel-api"]) == len(parents) / 4


def test_cloud_trace_is_told_who_is_sending(collector, tmp_path, monkeypatch):
    section = Telemetry(traces="cloud_trace", otlp_endpoint=collector.url)
    key_file = tmp_path / "account.json"
    with gcs_server() as google:
        google.write_key_file(key_file)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
        with closing(traces_of(section, service="api", project="demo-project")) as traces:
            traces.begin("work", parent=PARENT).end()
    assert collector.trace("a" * 32)["work"]
    assert collector.authorizations[0].startswith("Bearer ya29.")


def test_cloud_trace_without_credentials_is_an_operators_mistake(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match=r"telemetry\.traces: cloud_trace finds no usable"):
        traces_of(Telemetry(traces="cloud_trace"), service="api", project="demo-project")


@pytest.mark.parametrize("word", ["off", "otlp", "cloud_trace"])
def test_the_configuration_says_where_traces_go(tmp_path, word):
    file = tmp_path / "promptreel.yaml"
    file.write_text(f"telemetry:\n  traces: {word}\ngcp:\n  project: demo-project\n")
    assert load_config(file).telemetry.traces == word


@pytest.mark.parametrize(
    "section",
    [
        {"traces": "on"},
        {"traces": True},
        {"otlp_endpoint": "localhost:4318"},
        {"otlp_endpoint": "http://user:password@host"},
        {"sample_ratio": 1.5},
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused(section):
    with pytest.raises(ValidationError):
        Telemetry.model_validate(section)


def test_cloud_trace_needs_a_project(tmp_path):
    file = tmp_path / "promptreel.yaml"
    file.write_text(yaml.safe_dump({"telemetry": {"traces": "cloud_trace"}}))
    with pytest.raises(ConfigurationError, match=r"gcp\.project"):
        load_config(file)
