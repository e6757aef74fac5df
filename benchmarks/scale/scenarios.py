"""Which loads are simulated, on what installations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
import wan_model
from figures import read_results

from scale import known
from scale.arrivals import DAY, HOUR, Traffic
from scale.fleet import Service
from scale.jobs import Rules
from scale.operations import Render
from scale.pool import WorkerPool
from scale.push import Subscription
from scale.simulation import Load, Pulled, Pushed
from scale.worker import WorkerRules
from shared.catalog import find_model
from shared.config_sections import Worker
from shared.job import REPUBLISH_AFTER
from shared.sweep import _DEAD_LETTERS, _JOBS
from shared.transitions import REQUEUE_GRACE

MODEL = find_model("wan2.1")
PER_HOUR: Mapping[str, float] = {"1": 1, "100": 100, "10,000": 10_000, "1,000,000 a day": 1e6 / 24}
UNBOUNDED = 10**9  # jobs that may wait, where a limit is not what is looked at

# As shared/adapters and the service's own code have it: services/gpu_worker/push_service.py.
_MARGIN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    load: str  # a key of PER_HOUR
    name: str
    preset: str
    traffic: Traffic
    span_seconds: float
    installation: Pushed | Pulled
    note: str = ""


def render_range(preset: str) -> tuple[Render, Render]:
    """As hoped for and as feared: predicted, on an L4."""
    stages = wan_model.predict(MODEL.presets[preset])
    steps = MODEL.presets[preset].steps
    denoise, decode = stages["text"] + stages["denoise"], stages["decode"]
    return (
        Render(denoise_seconds=denoise.low, decode_seconds=decode.low, steps=steps),
        Render(denoise_seconds=denoise.high, decode_seconds=decode.high, steps=steps),
    )


def mean_render(preset: str) -> Render:
    low, high = render_range(preset)
    return Render(
        denoise_seconds=(low.denoise_seconds + high.denoise_seconds) / 2,
        decode_seconds=(low.decode_seconds + high.decode_seconds) / 2,
        steps=low.steps,
    )


def load_of(scenario: Scenario, *, seed: int) -> Load:
    """What a job takes is drawn evenly between hope and fear, for want of anything measured on an L4."""
    arrivals = scenario.traffic.times(scenario.span_seconds, seed)
    low, high = render_range(scenario.preset)
    generator = np.random.default_rng(seed + 1)
    return Load(
        arrivals=arrivals,
        device_seconds=generator.uniform(low.seconds, high.seconds, len(arrivals)).tolist(),
        tail_seconds=known.ENCODE_SECONDS.value + known.UPLOAD_SECONDS.value,
    )


def start_range() -> tuple[float, float]:
    """From being asked for to ready: Google's part, and ours as start_model.py predicts it."""
    found = read_results("cold_start")
    assert found is not None, "run benchmarks/cold_start.py first"
    cases = found["prediction_for_1_3b_on_l4"]
    assert isinstance(cases, list)
    ours = [case["predicted_seconds"] for case in cases]
    machine = known.GPU_MACHINE_START.value
    return machine + min(ours), machine + max(ours)


def rules(*, queued_at_most: int, sweep_seconds: float) -> Rules:
    return Rules(
        queued_at_most=queued_at_most,
        max_attempts=Worker().max_attempts,
        lease_seconds=Worker().lease_seconds,
        sweep_seconds=sweep_seconds,
        sweep_jobs=_JOBS,
        sweep_dead_letters=_DEAD_LETTERS,
        republish_seconds=REPUBLISH_AFTER.total_seconds(),
        requeue_grace_seconds=REQUEUE_GRACE.total_seconds(),
    )


def subscription() -> Subscription:
    return Subscription(
        ack_deadline_seconds=known.PUSH_SECONDS.value,
        backoff_min_seconds=known.BACKOFF_MIN.value,
        backoff_max_seconds=known.BACKOFF_MAX.value,
        max_deliveries=int(known.MAX_DELIVERIES.value),
        window_at_first=known.WINDOW_AT_FIRST.value,
        window_at_most=known.WINDOW_AT_MOST.value,
        window_kept_by_failure=1.0,
        window_lost_by_failure=known.WINDOW_STEP.value,
        backoff_factor=known.BACKOFF_FACTOR.value,
        backoff_jitter=known.BACKOFF_JITTER.value,
    )


def pushed(
    *,
    max_instances: int = int(known.MAX_INSTANCES.value),
    concurrency: int = int(known.CONCURRENCY.value),
) -> Pushed:
    """As terraform makes it, but for what is named."""
    return Pushed(
        rules=rules(
            queued_at_most=int(known.QUEUED_PER_GPU.value) * max_instances,
            sweep_seconds=known.SWEEP_EVERY.value,
        ),
        subscription=subscription(),
        service=Service(
            max_instances=max_instances,
            min_instances=0,
            concurrency=concurrency,
            target_share=known.AUTOSCALER_TARGET.value,
            autoscaler_seconds=known.AUTOSCALER_EVERY.value,
            averaged_seconds=known.AUTOSCALER_AVERAGES.value,
            pending_seconds=known.PENDING.value,
            pending_starts=known.PENDING_STARTS.value,
            idle_seconds=known.IDLE.value,
            start_seconds=start_range(),
            lifetime_seconds=known.INSTANCE_LIFETIME.value,
        ),
        worker=WorkerRules(
            line_seconds=known.PUSH_SECONDS.value - MODEL.max_render_seconds - _MARGIN_SECONDS,
            max_render_seconds=MODEL.max_render_seconds,
        ),
    )


def pulled(
    instances: int,
    *,
    queued_at_most: int | None = None,
    start_seconds: tuple[float, float] | None = None,
    lifetime_seconds: float = known.INSTANCE_LIFETIME.value,
) -> Pulled:
    """A pool of this size, otherwise as terraform and the code make it, but for what is named."""
    return Pulled(
        rules=rules(
            queued_at_most=queued_at_most or int(known.QUEUED_PER_GPU.value) * instances,
            sweep_seconds=known.POOL_SWEEP_EVERY.value,
        ),
        pool=WorkerPool(
            instances=instances,
            start_seconds=start_seconds or start_range(),
            visibility_seconds=known.VISIBILITY.value,
            lifetime_seconds=lifetime_seconds,
            max_render_seconds=MODEL.max_render_seconds,
        ),
    )


def gpus_for(traffic: Traffic, preset: str) -> int:
    """What noon keeps busy, and twice the square root of that against chance."""
    busy = traffic.peak_per_hour * mean_render(preset).seconds / HOUR
    return ceil(busy + 2 * sqrt(busy))


def traffic_of(load: str) -> Traffic:
    return Traffic(
        per_hour=PER_HOUR[load],
        swing=known.SWING.value,
        burst_share=known.BURST_SHARE.value,
        burst_size=int(known.BURST_SIZE.value),
    )


def scenarios(*, quick: bool) -> list[Scenario]:
    """The four loads: as terraform makes it, made to fit, and pulled by a pool that fits."""
    found: list[Scenario] = []
    for load in PER_HOUR:
        traffic = traffic_of(load)
        gpus = gpus_for(traffic, "fast")
        fitting = pushed(max_instances=gpus, concurrency=1)
        for name, installation in (
            ("as it is", pushed()),
            ("fitting", fitting),
            ("pool", pulled(gpus)),
        ):
            found.append(_scenario(load, name, installation, quick=quick))
    return found + _comparisons(quick=quick)


def _comparisons(*, quick: bool) -> list[Scenario]:
    """What one setting does, or one thing that nobody knows, the rest being as it was."""
    load = "10,000"
    gpus = gpus_for(traffic_of(load), "fast")
    two, four = (pushed(max_instances=gpus, concurrency=concurrency) for concurrency in (2, 4))
    shrinking = replace(four.subscription, window_kept_by_failure=known.WINDOW_KEPT_IN_FEAR.value)
    as_it_is = pushed()
    stubborn = replace(as_it_is.subscription, window_lost_by_failure=0.0)
    three = int(known.L4_QUOTA.value)
    return [
        _scenario(load, "2 requests an instance", two, quick=quick),
        _scenario(load, "4 requests an instance", four, quick=quick),
        _scenario(
            load,
            "4 requests, a window that shrinks fast",
            replace(four, subscription=shrinking),
            quick=quick,
        ),
        _scenario(
            load,
            "as it is, a window that never shrinks",
            replace(as_it_is, subscription=stubborn),
            quick=quick,
        ),
        _scenario(
            load,
            "the same, 20 deliveries",
            replace(as_it_is, subscription=replace(stubborn, max_deliveries=20)),
            quick=quick,
        ),
        _scenario("100", "3 GPUs, 4 requests each", pushed(max_instances=three), quick=quick),
        _scenario("1", "as it is, `reference`", as_it_is, quick=quick, preset="reference"),
    ]


# Simulated hours: enough jobs for a 99th percentile, and half a day from night to noon where a whole one
# would be a million.
_HOURS = {"1": 24 * 60, "100": 24 * 5, "10,000": 12, "1,000,000 a day": 12}
_QUICK = {"1": 0.1, "100": 0.1, "10,000": 0.05, "1,000,000 a day": 0.02}


def _scenario(
    load: str, name: str, installation: Pushed | Pulled, *, quick: bool, preset: str = "fast"
) -> Scenario:
    shortened = _QUICK[load] if quick else 1.0
    span = _HOURS[load] * HOUR * shortened
    # A night and a noon are in it, however short it is.
    day = DAY if span >= DAY else 2 * span
    return Scenario(
        load=load,
        name=name,
        preset=preset,
        traffic=replace(traffic_of(load), day_seconds=day),
        span_seconds=span,
        installation=installation,
    )
