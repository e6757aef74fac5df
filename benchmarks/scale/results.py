"""A run as figures: what is written to results/scale.json, and all that the page and the pictures know."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from figures import percentiles, read_results

from scale import bill, known, limits, operations, prices, scenarios
from scale.scenarios import Scenario
from scale.simulation import Outcome, simulate
from shared.prices import L4_PRICE

Figures = dict[str, Any]


def read(name: str = "scale") -> Figures:
    """What a run has written."""
    found = read_results(name)
    assert found is not None, "run python benchmarks/scale first"
    return found


def run(scenario: Scenario, *, seed: int) -> Outcome:
    return simulate(scenarios.load_of(scenario, seed=seed), scenario.installation, seed=seed + 2)


def figures_of(scenario: Scenario, outcome: Outcome) -> Figures:
    """Of one scenario; seconds and US dollars."""
    spent = bill.usd_a_clip(outcome, scenarios.mean_render(scenario.preset))
    return {
        "load": scenario.load,
        "name": scenario.name,
        "preset": scenario.preset,
        "usd_a_clip": round(sum(spent.values()), 5),
        "usd": {what: round(usd, 7) for what, usd in spent.items()},
        "wait_seconds": percentiles(outcome.waits, digits=1),
        "instances": {"mean": round(outcome.mean_instances, 1), "most": outcome.most_instances},
        "gpu_busy_share": round(outcome.busy_seconds / outcome.instance_seconds, 3),
        "jobs": {
            "submitted": outcome.submitted,
            "refused": outcome.refused,
            **dict(sorted(outcome.ends.items())),
        },
        "deliveries": outcome.deliveries,
        "failed_deliveries": outcome.failed_deliveries,
        "dead_letters": outcome.dead_letters,
        "published": outcome.published,
        "attempts": outcome.attempts,
        "most_in_flight": outcome.most_in_flight,
        "most_queued": outcome.most_queued,
        "most_requests": outcome.most_requests,
        "starts": outcome.starts,
        "span_hours": round(outcome.span_seconds / 3600, 1),
    }


def whole(rows: Sequence[Figures], *, seed: int, quick: bool) -> Figures:
    render = scenarios.mean_render("fast")
    found = limits.limits_of(render)
    noons = {name: scenarios.traffic_of(name).peak_per_hour for name in scenarios.PER_HOUR}
    subscription = scenarios.subscription()
    return {
        **{f"{row['load']} · {row['name']}: $ a clip": row["usd_a_clip"] for row in rows[:12]},
        "kind": "simulated",
        "seed": seed,
        "quick": quick,
        "render_seconds": {"mean": round(render.seconds, 1), "kind": "predicted"},
        "runs": list(rows),
        "limits": [asdict(limit) | {"jobs_an_hour": round(limit.jobs_an_hour)} for limit in found],
        "limits_reached_at_noon": {
            load: [limit.name for limit in limits.reached(found, noon)]
            for load, noon in noons.items()
        },
        "message_patience_seconds": round(subscription.patience_seconds),
        "hours_to_drain_a_full_queue": round(limits.hours_to_drain(render), 1),
        "empty_sweeps_usd_a_month": round(limits.sweep_usd_a_month(), 2),
        "ramp_minutes_at_noon": {
            load: round(limits.ramp_minutes(render, noon)) for load, noon in noons.items()
        },
        "job_document_writes_a_second": round(
            operations.render(render).job_writes / render.seconds, 2
        ),
        "operations_of_a_job": {
            step: {name: round(number, 1) for name, number in asdict(made).items() if number}
            for step, made in operations.steps_of(render).items()
        },
        "prices": {name: asdict(price) for name, price in prices.all_prices().items()}
        | {"L4": asdict(L4_PRICE)},
        "known": {name: asdict(value) for name, value in known.all_known().items()},
    }
