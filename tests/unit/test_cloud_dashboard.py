"""What the cloud's dashboard and alerts show and watch is really there, and each alert has its runbook.

The dashboard is read by the API's own message, strictly; expressions by a PromQL parser; metrics of ours are
looked up in log_metrics.yaml, whose filters run against real lines in tests/journey/test_log_metrics.py.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from google.cloud.monitoring_dashboard_v1 import Dashboard
from google.protobuf.json_format import ParseError

from shared.job import JobStatus
from tests.unit.promql import labels_asked_for, selectors

ROOT = Path(__file__).parents[2]
TERRAFORM = ROOT / "terraform"
METRICS = yaml.safe_load((TERRAFORM / "log_metrics.yaml").read_text())
ALERTS = (TERRAFORM / "alerts.tf").read_text()
SERVICE_LEVELS = (TERRAFORM / "service_levels.tf").read_text()
USER_PREFIX = "logging.googleapis.com/user/promptreel/"
PROMQL_PREFIX = "logging_googleapis_com:user_promptreel_"
FILLED_IN = {
    "name": "promptreel",
    "metrics": USER_PREFIX.removesuffix("/"),
    "promql_prefix": PROMQL_PREFIX,
    "subscription": "render-gpu-push",
    "gpu_worker": "promptreel-gpu-worker",
    "runbook_url": "https://example.com/operate.md",
}
# Google's own, with the labels that are used of them.
GOOGLES = {
    "pubsub.googleapis.com/subscription/dead_letter_message_count": {"subscription_id"},
    "pubsub.googleapis.com/subscription/num_undelivered_messages": {"subscription_id"},
    "pubsub.googleapis.com/subscription/oldest_unacked_message_age": {"subscription_id"},
    "run.googleapis.com/container/instance_count": {"service_name", "state"},
}
GOOGLES_IN_PROMQL = {re.sub(r"[^\w:]", "_", name.replace("/", ":", 1)) for name in GOOGLES}


def rendered():
    """The dashboard as Terraform fills it in."""
    text = (TERRAFORM / "dashboard.yaml").read_text()
    text = re.sub(r"(?<!\$)\$\{(\w+)\}", lambda match: FILLED_IN[match[1]], text)
    return yaml.safe_load(text.replace("$${", "${"))


DASHBOARD = rendered()
CHARTS = [
    tile["widget"] for tile in DASHBOARD["mosaicLayout"]["tiles"] if "xyChart" in tile["widget"]
]
QUERIES = [
    pytest.param(data["timeSeriesQuery"], id=f"{chart['title']} {number}")
    for chart in CHARTS
    for number, data in enumerate(chart["xyChart"]["dataSets"])
]


def check_metric(metric, labels):
    if metric in GOOGLES:
        assert labels <= GOOGLES[metric]
        return
    assert metric.startswith(USER_PREFIX)
    assert labels <= set(METRICS[metric.removeprefix(USER_PREFIX)]["labels"])


def check_promql(expression):
    named = selectors(expression)
    assert named
    for metric, matchers in named:
        # Without it, Cloud Monitoring refuses metrics that several kinds of resources have.
        assert "monitored_resource" in dict(matchers)
        if metric in GOOGLES_IN_PROMQL:
            continue
        assert metric.startswith(PROMQL_PREFIX)
        name = metric.removeprefix(PROMQL_PREFIX)
        stem = re.sub(r"_(sum|count|bucket)$", "", name)
        found = METRICS[name if name in METRICS else stem]
        assert ("value" in found) == (name not in METRICS), f"{name} is a distribution, or is none"
        labels = {label for label, _ in matchers} | labels_asked_for(expression)
        assert labels <= {*found["labels"], "monitored_resource", "le"}
        for label, values in matchers:
            if label == "outcome":
                assert set(values.split("|")) <= {status.value for status in JobStatus}


def test_the_api_would_take_the_dashboard():
    read = Dashboard.from_json(json.dumps(DASHBOARD), ignore_unknown_fields=False)
    assert len(read.mosaic_layout.tiles) == len(DASHBOARD["mosaicLayout"]["tiles"])


def test_a_misspelt_key_would_be_noticed():
    tile = DASHBOARD["mosaicLayout"]["tiles"][1]
    wrong = {**tile, "widget": {**tile["widget"], "xyChrat": {}}}
    with pytest.raises(ParseError, match="xyChrat"):
        Dashboard.from_json(
            json.dumps({"mosaicLayout": {"tiles": [wrong]}}), ignore_unknown_fields=False
        )


@pytest.mark.parametrize("query", QUERIES)
def test_a_chart_shows_what_is_told(query):
    if "prometheusQuery" in query:
        check_promql(query["prometheusQuery"])
        return
    shown = query["timeSeriesFilter"]
    (metric,) = re.findall(r'metric\.type="([^"]+)"', shown["filter"])
    grouped = " ".join(shown["aggregation"].get("groupByFields", []))
    labels = set(re.findall(r"(?:metric|resource)\.labels\.(\w+)", f"{shown['filter']} {grouped}"))
    check_metric(metric, labels)
    is_distribution = "value" in METRICS.get(metric.removeprefix(USER_PREFIX), {})
    reducer = shown["aggregation"].get("crossSeriesReducer", "")
    assert is_distribution == reducer.startswith("REDUCE_PERCENTILE")


def test_the_aims_are_lines_on_it():
    limits = {
        chart["title"]: [line["value"] for line in chart["xyChart"].get("thresholds", [])]
        for chart in CHARTS
    }
    assert limits["Making a clip: p95 within 60 s, p99 within 90 s"] == [60, 90]
    assert limits["Cold starts: p95 within 5 s, p99 within 8 s"] == [5, 8]
    assert limits["Dollars a clip, over an hour"] == [0.02]
    assert limits["Share of jobs that succeed, over an hour"] == [0.99]


def test_an_aim_that_a_service_level_measures_is_a_buckets_bound():
    # Else Cloud Monitoring can only guess how many were within it.
    for seconds in re.findall(r"seconds = (\d+)", SERVICE_LEVELS):
        assert int(seconds) in METRICS["generation_seconds"]["buckets"]
    for metric in METRICS.values():
        assert ("value" in metric) == ("buckets" in metric)
        assert metric.get("buckets", []) == sorted(set(metric.get("buckets", [])))


def test_its_tiles_do_not_lie_on_each_other():
    taken = set()
    for tile in DASHBOARD["mosaicLayout"]["tiles"]:
        cells = {
            (x, y)
            for x in range(tile["xPos"], tile["xPos"] + tile["width"])
            for y in range(tile["yPos"], tile["yPos"] + tile["height"])
        }
        assert not taken & cells
        assert tile["xPos"] + tile["width"] <= DASHBOARD["mosaicLayout"]["columns"]
        taken |= cells


# --- alerts


def policies():
    """The text of each alert policy, by its name."""
    found = re.split(
        r'^resource "google_monitoring_alert_policy" "(\w+)"', ALERTS, flags=re.MULTILINE
    )
    return dict(zip(found[1::2], found[2::2], strict=True))


def anchors():
    """Those of docs/operate.md, as GitHub makes them of its headings."""
    headings = re.findall(
        r"^#+ (.+)$", (ROOT / "docs" / "operate.md").read_text(), flags=re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("policy", policies())
def test_an_alert_links_to_a_section_of_the_runbook(policy):
    (anchor,) = re.findall(r"\$\{var\.runbook_url\}#([\w-]+)", policies()[policy])
    assert anchor in anchors()


def test_alerts_and_service_levels_watch_metrics_that_are_there():
    named = re.findall(r'log_metric_types\["(\w+)"\]', ALERTS + SERVICE_LEVELS)
    assert named
    assert set(named) <= METRICS.keys()
    types = set(re.findall(r'metric\.type=\\"(\w+\.googleapis\.com/[^\\]+)\\"', ALERTS))
    assert types
    assert types <= GOOGLES.keys()
    for outcome in re.findall(r'metric\.labels\.outcome=\\"(\w+)\\"', SERVICE_LEVELS):
        assert outcome in {status.value for status in JobStatus}


def test_the_expressions_of_alerts_ask_for_what_is_told():
    heredocs = re.findall(r"query\s+= <<-EOT\n(.*?)EOT", ALERTS, flags=re.DOTALL)
    lines = re.findall(r'query\s+= "(.*)"$', ALERTS, flags=re.MULTILINE)
    expressions = [*heredocs, *(line.replace('\\"', '"') for line in lines)]
    assert len(expressions) == ALERTS.count("condition_prometheus_query_language {")
    for expression in expressions:
        filled = expression.replace("${local.promql_prefix}", PROMQL_PREFIX)
        filled = filled.replace("${var.alert_usd_a_day}", "20")
        check_promql(re.sub(r"\$\{[\w.]+\}", "x", filled))
