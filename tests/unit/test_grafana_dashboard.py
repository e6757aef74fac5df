"""Whatever the dashboard of one machine shows is really told, by these names and labels.

Each expression is read by a PromQL parser; what it names is looked up in the metrics of a running API and
worker, which share one class, and in the gauges of the API.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from services.api.gauges import StateGauges
from shared.config import load_config
from shared.job import JobStatus
from tests.unit.api_under_test import running_api
from tests.unit.promql import labels_asked_for, selectors

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((FOLDER / "promptreel.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
RUNBOOK = (ROOT / "docs" / "operate.md").read_text()
IN_THE_RUNBOOK = re.findall(r"```promql\n(.+?)\n```", RUNBOOK, flags=re.DOTALL)
EXPRESSIONS = [pytest.param(target, id=f"{title} {target['refId']}") for title, target in TARGETS]


def expression_of(target):
    return target["expr"].replace("$__rate_interval", "5m")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The labels of each series there may be, by its name."""
    with running_api(tmp_path_factory.mktemp("api")) as api:
        api.worker.beat(model_loaded=True)
        registry = api.wiring.metrics.registry
        found = {}
        for collector, names in registry._collector_to_names.items():
            if isinstance(collector, StateGauges):
                continue
            kind = collector._type
            for name in names:
                buckets = {"le"} if kind == "histogram" and name.endswith("_bucket") else set()
                found[name] = {*collector._labelnames} | buckets
        for family in StateGauges(api.wiring).collect():
            for sample in family.samples:
                found[sample.name] = set(sample.labels)
        return found


@pytest.mark.parametrize("target", EXPRESSIONS)
def test_a_panel_asks_for_what_is_told(told, target):
    expression = expression_of(target)
    named = selectors(expression)
    assert named
    for metric, matchers in named:
        assert metric in told
        assert {label for label, _ in matchers} <= told[metric]
    known = set().union(*(told[metric] for metric, _ in named))
    assert labels_asked_for(expression) <= known
    in_legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    grouped = labels_asked_for(expression)
    assert in_legend <= (grouped - {"le"} if grouped else known)


@pytest.mark.parametrize("expression", IN_THE_RUNBOOK)
def test_the_runbook_asks_for_what_is_told(told, expression):
    for metric, matchers in selectors(expression):
        assert {label for label, _ in matchers} <= told[metric]
    assert labels_asked_for(expression) <= set().union(
        *(told[metric] for metric, _ in selectors(expression))
    )


def test_statuses_that_a_panel_picks_are_a_jobs():
    picked = {
        value
        for _, target in TARGETS
        for metric, matchers in selectors(expression_of(target))
        for label, values in matchers
        for value in values.split("|")
        if metric.startswith("promptreel_jobs") and label == "status"
    }
    assert picked
    assert picked <= {status.value for status in JobStatus}


def test_a_misspelt_metric_or_label_would_be_seen(told):
    for expression in (
        "sum(rate(promptreel_jobs_finished_total[5m]))",
        'promptreel_jobs_ended_total{state="failed"}',
        "sum by (backend) (promptreel_jobs_ended_total)",
    ):
        named = selectors(expression)
        labels = {label for _, matchers in named for label, _ in matchers}
        labels |= labels_asked_for(expression)
        metric = named[0][0]
        assert metric not in told or not labels <= told[metric]


def test_every_metric_of_ours_is_on_it(told):
    shown = {metric for _, target in TARGETS for metric, _ in selectors(expression_of(target))}

    def stem(name):
        return re.sub(r"_(bucket|count|sum|total|created)$", "", name)

    assert {stem(name) for name in told} - {stem(name) for name in shown} == {
        "promptreel_workers"  # the same as by state, more coarsely
    }


def test_its_panels_do_not_lie_on_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells
        assert place["x"] + place["w"] <= 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_prometheus_asks_where_a_default_installation_answers():
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    config = load_config(ROOT / "config" / "promptreel.yaml")
    assert {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped} == {
        "promptreel-api": [f"127.0.0.1:{config.server.port}"],
        "promptreel-worker": [f"127.0.0.1:{config.worker.metrics_port}"],
    }
