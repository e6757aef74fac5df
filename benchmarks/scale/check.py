"""The small end, for real: `promptreel up` on this machine with one worker, beside what the simulation says.

The simulation is told when the jobs came, how long one keeps the device (from a burst, in which the next is
claimed the moment it can be), how long it goes on beside the next one, and what a claim takes when nobody
waits. Everything else is its own.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import numpy as np
from figures import machine, percentile, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table
from served import served

from scale import scenarios
from scale.simulation import Load, simulate
from services.cli.model_files import make_demo_model

_SHORT_CLIPS = {"preset": "fast", "device": "cpu", "duration_seconds": 1, "resolution": "240p"}
_UTILISATION = 0.7
_POLL_SECONDS = 0.1
_READY_SECONDS = 300.0
_END_SECONDS = 1800.0
_CALIBRATED_BY = 6  # jobs alone, and as many at once
_RUNS = 50  # of the simulation, each with other dice: what is compared is their mean


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Of one job, as the API tells them; seconds since the epoch."""

    created: float
    started: float
    finished: float

    @property
    def wait(self) -> float:
        return self.started - self.created

    @property
    def total(self) -> float:
        return self.finished - self.created


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the simulation is told of a render; seconds."""

    claim_seconds: float
    device_seconds: Sequence[float]
    tail_seconds: float

    @property
    def mean_device_seconds(self) -> float:
        return statistics.mean(self.device_seconds)


class Caller:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def submit(self) -> str:
        reply = self._http.post("/v1/jobs", json={"prompt": "a red circle moving left"})
        return str(reply.raise_for_status().json()["id"])

    def moments(self, job_id: str) -> Moments:
        """Once it is finished."""
        deadline = time.monotonic() + _END_SECONDS
        while (job := self._http.get(f"/v1/jobs/{job_id}").json())["status"] != "finished":
            assert job["status"] != "failed", job
            assert time.monotonic() < deadline, "a job does not end"
            time.sleep(_POLL_SECONDS)
        created, started, finished = (
            datetime.fromisoformat(job[name]).timestamp()
            for name in ("created_at", "started_at", "finished_at")
        )
        return Moments(created=created, started=started, finished=finished)


def calibrate(caller: Caller) -> Measured:
    """First jobs one after the other, then some at once."""
    caller.moments(caller.submit())  # a warm-up: kernels are made for a shape
    alone = [caller.moments(caller.submit()) for _ in range(_CALIBRATED_BY)]
    together = [caller.submit() for _ in range(_CALIBRATED_BY + 2)]
    started = sorted(caller.moments(job_id).started for job_id in together)
    # But for the first: where no clip is being finished yet, the next one is claimed sooner.
    device = [later - earlier for earlier, later in pairwise(started)][1:]
    whole = statistics.median(each.finished - each.started for each in alone)
    return Measured(
        claim_seconds=statistics.median(each.wait for each in alone),
        device_seconds=device,
        tail_seconds=max(0.0, whole - statistics.mean(device)),
    )


def under_load(
    caller: Caller, measured: Measured, *, jobs: int, seed: int, console: Console
) -> list[Moments]:
    """By chance, so many that the device is busy for most of the time."""
    gap = measured.mean_device_seconds / _UTILISATION
    pauses = np.random.default_rng(seed).exponential(gap, jobs)
    began, due, ids = time.monotonic(), 0.0, []
    for pause in track(pauses.tolist(), "jobs, by chance", console=console):
        due += pause
        time.sleep(max(0.0, began + due - time.monotonic()))
        ids.append(caller.submit())
    return [caller.moments(job_id) for job_id in ids]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Of one simulated run; seconds."""

    waits: Sequence[float]
    mean_total: float
    span: float


def predicted(seen: Sequence[Moments], measured: Measured, *, seed: int) -> Predicted:
    """The same arrivals; each job keeps the device as long as one of those that were measured."""
    first = min(each.created for each in seen)
    arrivals = sorted(each.created - first for each in seen)
    generator = np.random.default_rng(seed)
    device = generator.choice(np.asarray(measured.device_seconds), len(arrivals)).tolist()
    load = Load(arrivals=arrivals, device_seconds=device, tail_seconds=measured.tail_seconds)
    pool = scenarios.pulled(1, start_seconds=(0.0, 0.0), lifetime_seconds=float("inf"))
    outcome = simulate(load, pool, seed=seed)
    waits = [wait + measured.claim_seconds for wait in outcome.waits]
    return Predicted(
        waits=waits,
        mean_total=statistics.mean(waits) + statistics.mean(device) + measured.tail_seconds,
        span=outcome.span_seconds + measured.claim_seconds,
    )


def compare(seen: Sequence[Moments], measured: Measured, *, seed: int) -> dict[str, object]:
    """Both in seconds; the error is of the mean from acceptance to the end.

    Of the waits the simulation knows less: the real worker claims a job when the one before is denoised,
    here it is when the device is free altogether.
    """
    runs = [predicted(seen, measured, seed=seed + run) for run in range(_RUNS)]
    waits = [each.wait for each in seen]
    span = max(each.finished for each in seen) - min(each.created for each in seen)
    compared = {
        "mean_total": (
            statistics.mean(each.total for each in seen),
            [run.mean_total for run in runs],
        ),
        "mean_wait": (statistics.mean(waits), [statistics.mean(run.waits) for run in runs]),
        "p95_wait": (percentile(waits, 95), [percentile(run.waits, 95) for run in runs]),
        "all_jobs_done_after": (span, [run.span for run in runs]),
    }
    pairs = {
        what: {"measured": round(real, 3), "simulated": round(statistics.mean(simulated), 3)}
        for what, (real, simulated) in compared.items()
    }
    total = pairs["mean_total"]
    busy = len(seen) * measured.mean_device_seconds / span
    return {
        "mean_total_error": round(total["simulated"] / total["measured"] - 1, 3),
        "compared": pairs,
        "jobs": len(seen),
        "utilisation": round(busy, 3),
        "device_seconds": [round(seconds, 3) for seconds in measured.device_seconds],
        "tail_seconds": round(measured.tail_seconds, 3),
        "claim_seconds": round(measured.claim_seconds, 3),
    }


def show(console: Console, found: dict[str, object]) -> None:
    table = Table("seconds", "measured", "simulated", title=f"{found['jobs']} jobs, one worker")
    pairs = found["compared"]
    assert isinstance(pairs, dict)
    for what, pair in pairs.items():
        table.add_row(what.replace("_", " "), str(pair["measured"]), str(pair["simulated"]))
    console.print(table)
    console.print(f"the mean total is {found['mean_total_error']:+.1%} off")


def main(jobs: int, *, seed: int, console: Console) -> None:
    """Writes benchmarks/results/scale-check.json; a quiet machine is half of the measurement."""
    where = machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_demo_model(folder / "model")
        with served(
            folder, folder / "model", render=_SHORT_CLIPS, ready_seconds=_READY_SECONDS
        ) as http:
            caller = Caller(http)
            measured = calibrate(caller)
            seen = under_load(caller, measured, jobs=jobs, seed=seed, console=console)
    found = compare(seen, measured, seed=seed)
    write_results("scale-check", found | where)
    show(console, found)
