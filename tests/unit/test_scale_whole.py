"""Whole runs: nothing is lost, more is never worse, sums add up, and the numbers are this repository's."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from scale import bill, known, limits, operations, page, prices, results, scenarios
from scale.arrivals import HOUR, Traffic
from scale.simulation import Load, simulate

from services.api.waiting import seats_for
from services.gpu_worker import attempt, push_service
from shared.adapters.gcp import pubsub_queue
from shared.catalog import find_model
from shared.prices import L4_PRICE

ROOT = Path(__file__).parents[2]
BUSY = Traffic(per_hour=900, swing=0.6, burst_share=0.2, burst_size=10, day_seconds=4 * HOUR)


def load_of(traffic, hours, *, seed=5):
    return scenarios.load_of(
        scenarios.Scenario(
            load="",
            name="",
            preset="fast",
            traffic=traffic,
            span_seconds=hours * HOUR,
            installation=scenarios.pushed(),
        ),
        seed=seed,
    )


def often_dying(installation):
    """So that leases, the sweep and lost attempts have something to do."""
    if hasattr(installation, "pool"):
        return replace(installation, pool=replace(installation.pool, lifetime_seconds=600.0))
    return replace(installation, service=replace(installation.service, lifetime_seconds=600.0))


@pytest.mark.parametrize(
    "installation",
    [
        scenarios.pushed(max_instances=3),
        scenarios.pushed(max_instances=14, concurrency=1),
        scenarios.pulled(14),
    ],
    ids=["pushed, overloaded", "pushed", "pulled"],
)
def test_every_job_ends_once_and_none_is_lost_however_often_workers_die(installation):
    load = load_of(BUSY, 2)
    outcome = simulate(load, often_dying(installation), seed=6)

    # `Jobs._end` refuses a second end; a job without any would keep the simulation from returning.
    assert outcome.accepted + outcome.refused == len(load.arrivals)
    assert sum(outcome.ends.values()) == outcome.accepted
    assert outcome.finished > 0.4 * outcome.accepted
    assert outcome.attempts > outcome.finished
    assert min(outcome.waits) >= 0
    assert outcome.busy_seconds <= outcome.instance_seconds


def test_the_same_seed_has_the_same_outcome_and_another_has_another():
    def once(seed):
        return simulate(load_of(BUSY, 1, seed=seed), scenarios.pushed(max_instances=12), seed=seed)

    assert once(1) == once(1)
    assert once(1).waits != once(2).waits


def test_more_gpus_never_keep_callers_waiting_longer():
    load = load_of(BUSY, 2)
    means = []
    for gpus in (10, 14, 20):
        outcome = simulate(load, scenarios.pulled(gpus), seed=1)
        means.append(sum(outcome.waits) / len(outcome.waits))
    assert means == sorted(means, reverse=True)


def test_more_is_asked_for_by_day_than_by_night_and_as_much_as_was_said():
    traffic = Traffic(per_hour=1000, swing=0.6, burst_share=0.5, burst_size=20)
    times = traffic.times(24 * HOUR, 1)
    noon = sum(10 * HOUR <= moment < 14 * HOUR for moment in times)
    night = sum(moment < 2 * HOUR or moment >= 22 * HOUR for moment in times)
    assert len(times) == pytest.approx(24_000, rel=0.05)
    assert noon / night == pytest.approx(1.57 / 0.43, rel=0.15)
    assert len(times) - len(set(times)) == pytest.approx(0.5 * 0.95 * 24_000, rel=0.1)


def test_a_bill_is_what_its_seconds_and_operations_come_to():
    render = operations.Render(denoise_seconds=20.0, decode_seconds=10.0, steps=3)
    one = Load(arrivals=[0.0], device_seconds=[30.0], tail_seconds=2.0)
    installation = scenarios.pushed()
    calm = replace(installation.service, start_seconds=(10.0, 10.0))
    outcome = simulate(one, replace(installation, service=calm), seed=1)
    spent = bill.usd_a_clip(outcome, render)

    assert spent["GPU busy"] == pytest.approx(30 * L4_PRICE.usd_a_second)
    assert spent["cold starts"] == pytest.approx(10 * L4_PRICE.usd_a_second)
    whole = outcome.instance_seconds * L4_PRICE.usd_a_second
    assert sum(spent[name] for name in ("GPU busy", "GPU idle", "cold starts")) == pytest.approx(
        whole
    )
    # A publish and a delivery, a thousand bytes each.
    assert spent["Pub/Sub"] == pytest.approx(2 * 1000 * 40 / 2**40)
    # Five operations of class A, a download, seven of thirty days kept, fetched once.
    expected = 5 * 0.005 / 1000 + 0.0004 / 1000 + 2e6 * (0.02 * 7 / 30 + 0.12) / 1e9
    assert spent["GCS"] == pytest.approx(expected)


def test_what_a_job_asks_of_firestore_by_hand():
    render = operations.Render(denoise_seconds=12.0, decode_seconds=18.0, steps=3)
    made = operations.render(render)
    assert made.reads == pytest.approx(30 / 0.4)
    # Three steps, a report every 1.2 s of decoding, a heartbeat every 5 s of denoising.
    assert made.writes == pytest.approx(3 + 18 / 1.2 + 12 / 5)
    assert operations.submit(queued=2500).reads == 1 + 2 * 3 + 1


def test_twice_the_price_is_twice_the_bill(monkeypatch):
    before = prices.FIRESTORE_READS.of(1e6)
    assert replace(prices.FIRESTORE_READS, usd=0.06).of(1e6) == pytest.approx(2 * before)


def test_a_limit_is_reached_by_whoever_asks_for_more():
    found = limits.limits_of(scenarios.mean_render("fast"))
    assert [limit.jobs_an_hour for limit in found] == sorted(limit.jobs_an_hour for limit in found)
    assert limits.reached(found, 1) == []
    assert limits.reached(found, 300)[0].name.startswith("one GPU")
    assert len(limits.reached(found, 1e7)) == len(found)


def test_a_full_queue_is_empty_before_a_message_that_is_always_refused_is_given_up():
    patience = scenarios.subscription().patience_seconds / 3600
    assert limits.hours_to_drain(scenarios.mean_render("fast")) < patience


def test_what_is_called_configured_is_what_terraform_sets():
    variables = (ROOT / "terraform/variables.tf").read_text()
    worker = variables.split('variable "gpu_worker" {')[1].split("\n}\n")[0]

    def default(name, text=variables):
        return float(re.search(rf"{name}\s*= optional\(number, (\d+)\)", text).group(1))

    assert default("max_instances", worker) == known.MAX_INSTANCES.value
    assert f"max_instances <= {known.MAX_INSTANCES_ALLOWED.value:.0f}" in worker
    assert default("backoff_min_seconds") == known.BACKOFF_MIN.value
    assert default("backoff_max_seconds") == known.BACKOFF_MAX.value
    assert default("max_deliveries") == known.MAX_DELIVERIES.value
    assert default("artifact_days") == known.ARTIFACT_DAYS.value
    assert default("threads") == known.API_THREADS.value
    service = (ROOT / "terraform/gpu_worker.tf").read_text()
    assert f"max_instance_request_concurrency = {known.CONCURRENCY.value:.0f}" in service
    configuration = (ROOT / "terraform/configuration.tf").read_text()
    assert f"queued_per_gpu = {known.QUEUED_PER_GPU.value:.0f}\n" in configuration
    assert f"worker.sweep_seconds, {known.POOL_SWEEP_EVERY.value:.0f})" in configuration
    naming = (ROOT / "terraform/naming.tf").read_text()
    assert f"push_seconds = {known.PUSH_SECONDS.value:.0f}" in naming
    assert '"* * * * *"' in variables  # every minute
    assert known.SWEEP_EVERY.value == 60


def test_what_is_called_counted_is_what_the_code_says():
    assert operations._TICK_SECONDS == attempt._TICK_SECONDS
    assert operations._REPORT_SECONDS == attempt._REPORT_SECONDS
    settings = yaml.safe_load((ROOT / "config/promptreel.yaml").read_text())
    assert settings["worker"]["heartbeat_seconds"] == operations._HEARTBEAT_SECONDS
    assert known.DEAD_LETTER_LOOK.value == pubsub_queue._LOOK_SECONDS
    assert scenarios._MARGIN_SECONDS == push_service._MARGIN_SECONDS
    assert known.PUSH_SECONDS.value == push_service.PUSH_SECONDS
    assert seats_for(100) == 100 * limits._SEATS_SHARE
    model = find_model("wan2.1")
    assert known.DECODED_STEPS.value == (model.frames(5) - 1) / 4 + 1


def test_every_number_says_where_it_is_from():
    for name, value in (known.all_known() | prices.all_prices()).items():
        assert value.source, name
        assert value.noted_on.startswith("20"), name


def test_the_page_is_what_the_figures_say():
    found = results.read()
    assert (ROOT / "docs/scale.md").read_text() == page.page_of(found)
    for row in found["runs"]:
        assert sum(row["usd"].values()) == pytest.approx(row["usd_a_clip"], abs=1e-4)
