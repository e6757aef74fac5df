"""What a job adds to a render: the same clips through the whole service, and by the engine alone.

The alternative is named `direct`: one render process with the same model, driven over its pipes, with no
API, store, queue or upload around it. Both run in turn on the same machine, clip by clip.

    python benchmarks/overhead.py [--clips 12] [--submissions 200]

Prints a table and writes benchmarks/results/overhead.json.
"""

import argparse
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx
from direct import Direct
from figures import machine, percentile, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table
from served import MODEL, served

from services.cli.model_files import make_demo_model

DURATION_SECONDS = 1
RESOLUTION = "240p"
READY_SECONDS = 60


class Served:
    """The same through HTTP, as a caller sees it."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self.claim_seconds: list[float] = []  # from the answered submission to the claim
        self.visible_seconds: list[float] = []  # from the stored result to the poll that sees it

    def render(self) -> float:
        """Seconds from the request to a poll that says finished."""
        started = time.perf_counter()
        job_id = self.submit()
        while (job := self._http.get(f"/v1/jobs/{job_id}").json())["status"] != "finished":
            assert job["status"] != "failed", job
            time.sleep(0.02)
        seen_at = time.time()
        seconds = time.perf_counter() - started
        moments = {
            name: datetime.fromisoformat(job[name]).timestamp()
            for name in ("created_at", "started_at", "finished_at")
        }
        self.claim_seconds.append(moments["started_at"] - moments["created_at"])
        self.visible_seconds.append(seen_at - moments["finished_at"])
        return seconds

    def submit(self) -> str:
        reply = self._http.post("/v1/jobs", json={"prompt": "a red circle"})
        return reply.raise_for_status().json()["id"]

    def accept(self) -> float:
        """Seconds until a submission is answered; the job is canceled at once."""
        started = time.perf_counter()
        job_id = self.submit()
        seconds = time.perf_counter() - started
        self._http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        return seconds


def measure(folder: Path, *, clips: int, submissions: int, console: Console) -> dict[str, object]:
    model_dir = folder / "model"
    make_demo_model(model_dir)
    render = {"duration_seconds": DURATION_SECONDS, "resolution": RESOLUTION}
    with (
        Direct(MODEL, model_dir) as direct,
        served(folder, model_dir, render=render, ready_seconds=READY_SECONDS) as http,
    ):
        service = Served(http)

        def render_alone(seed: int) -> float:
            return direct.render(
                "reference",
                seed=seed,
                prompt="a red circle",
                duration_seconds=DURATION_SECONDS,
                resolution=RESOLUTION,
            )

        render_alone(0)
        service.render()
        pairs = [
            (render_alone(seed), service.render())
            for seed in track(range(clips), "clips, in turn", console=console)
        ]
        del service.claim_seconds[0], service.visible_seconds[0]
        accepted = [
            service.accept() for _ in track(range(submissions), "submissions", console=console)
        ]
    ratios = [through / alone for alone, through in pairs]
    return {
        "ratio_to_direct_median": round(statistics.median(ratios), 3),
        "overhead_p95_seconds": round(percentile([b - a for a, b in pairs], 95), 3),
        "submit_to_claim_p95_seconds": round(percentile(service.claim_seconds, 95), 3),
        "finish_to_visible_p95_seconds": round(percentile(service.visible_seconds, 95), 3),
        "accept_p50_ms": round(percentile(accepted, 50) * 1000, 2),
        "accept_p99_ms": round(percentile(accepted, 99) * 1000, 2),
        "ratio_to_direct_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
        "direct_seconds": [round(alone, 3) for alone, _ in pairs],
        "served_seconds": [round(through, 3) for _, through in pairs],
        "clips": clips,
        "submissions": submissions,
        "clip": f"{MODEL.name}, {MODEL.frames(DURATION_SECONDS)} frames, {RESOLUTION}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--submissions", type=int, default=200)
    arguments = parser.parse_args()
    console = Console()
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(
            Path(folder),
            clips=arguments.clips,
            submissions=arguments.submissions,
            console=console,
        )
    write_results("overhead", figures | where)
    table = Table("figure", "value", title="what a job adds to a render")
    for name, value in figures.items():
        if not isinstance(value, list):
            table.add_row(name, str(value))
    console.print(table)


if __name__ == "__main__":
    main()
