"""What a caller of `POST /generate` gets: latency, success, and what the service adds to a render.

A real `promptreel up` with the demo model and the preset `fast`. First one request after the other;
after each, the alternative named `direct`: one render process with the same model and clip, driven over
its pipes, with nothing around it. Then bursts, in which requests wait for the one worker. Last a few
longer clips, to see whether what the service adds grows with the render. A first request of each is
excluded: kernels are made for a shape.

    python benchmarks/slo.py [--requests 30] [--bursts 10] [--burst 4] [--long 5]

Prints a table, writes benchmarks/results/slo.json and draws benchmarks/results/slo.png.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from bars import draw_bars
from direct import Direct
from figures import RESULTS, machine, percentiles, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services.cli.client_key import client_key
from services.cli.model_files import make_demo_model
from services.cli.service import free_port
from shared.catalog import find_model
from shared.config import load_config

MODEL = find_model("wan2.1-demo")
PRESET = "fast"
RESOLUTION = "240p"
START_SECONDS = 60
SCALED_RENDER_SECONDS = 30.0
TARGET_SHARE = 0.02


@dataclass(frozen=True)
class Answer:
    """Of one request; ``failure`` says why there is no video."""

    wall_seconds: float
    generation_seconds: float | None = None
    queue_seconds: float | None = None
    failure: str | None = None


class Caller:
    """Somebody with a key and a stopwatch."""

    def __init__(self, http: httpx.Client, *, resolution: str) -> None:
        self._http = http
        self._resolution = resolution

    def generate(self, prompt: str, *, duration_seconds: int) -> Answer:
        body = {"prompt": prompt, "duration": duration_seconds, "resolution": self._resolution}
        started = time.perf_counter()
        try:
            reply = self._http.post("/generate", json=body)
        except httpx.HTTPError as error:
            return Answer(time.perf_counter() - started, failure=repr(error))
        seconds = time.perf_counter() - started
        if reply.status_code != httpx.codes.OK:
            return Answer(seconds, failure=f"{reply.status_code} {reply.text[:200]}")
        metadata = reply.json()["metadata"]
        return Answer(seconds, metadata["generation_time_seconds"], metadata["queue_seconds"])


@contextmanager
def promptreel_up(folder: Path, model_dir: Path) -> Iterator[httpx.Client]:
    """The program as a user starts it; it is gone afterwards, and so is what it started."""
    file = folder / "promptreel.yaml"
    settings = {
        "data_dir": "state",
        "server": {"port": free_port("127.0.0.1")},
        "render": {"model": MODEL.name, "preset": PRESET, "device": "cpu"},
        "models": {MODEL.name: {"dir": str(model_dir)}},
        "worker": {"metrics_port": None},
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = load_config(file)
    key = client_key(config).secret
    program = Path(sys.executable).with_name("promptreel")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "up", "--config", file], stdout=log, stderr=log, start_new_session=True
        )
    try:
        with httpx.Client(
            base_url=f"http://{config.server.host}:{config.server.port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(config.generate.wait_seconds + 30),
        ) as http:
            wait_until_it_can_render(http, process, folder / "log")
            yield http
    finally:
        # Not Ctrl-C's signal: whoever runs this in a shell's background has it ignored.
        process.terminate()
        process.wait(30)


def wait_until_it_can_render(
    http: httpx.Client, process: subprocess.Popen[bytes], log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            if http.get("/health").json().get("model_loaded"):
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready in {START_SECONDS} s")


@dataclass(frozen=True)
class Turns:
    """Requests one after the other, each beside the same clip rendered alone."""

    answers: list[Answer]
    alone_seconds: list[float]

    def added_seconds(self) -> list[float]:
        pairs = zip(self.answers, self.alone_seconds, strict=True)
        return [answer.wall_seconds - alone for answer, alone in pairs if answer.failure is None]

    def shares(self) -> list[float]:
        """Of each render: what the service adds, to what the render takes by itself."""
        pairs = zip(self.answers, self.alone_seconds, strict=True)
        return [
            answer.wall_seconds / alone - 1 for answer, alone in pairs if answer.failure is None
        ]


def take_turns(
    caller: Caller,
    direct: Direct,
    *,
    count: int,
    duration_seconds: int,
    resolution: str,
    console: Console,
) -> Turns:
    answers, alone = [], []
    label = f"clips of {duration_seconds} s, in turn"
    # The first pair is the warm-up.
    for number in track(range(count + 1), label, console=console):
        prompt = f"a red circle moves left, {duration_seconds} s, take {number}"
        answers.append(caller.generate(prompt, duration_seconds=duration_seconds))
        alone.append(
            direct.render(
                PRESET,
                seed=number,
                prompt=prompt,
                duration_seconds=duration_seconds,
                resolution=resolution,
            )
        )
    return Turns(answers[1:], alone[1:])


def burst(caller: Caller, *, bursts: int, size: int, console: Console) -> list[Answer]:
    """As many at once, then the next as many."""
    answers: list[Answer] = []
    with ThreadPoolExecutor(size) as pool:
        for number in track(range(bursts), f"bursts of {size}", console=console):
            prompts = [f"a blue square, burst {number}, {index}" for index in range(size)]
            answers += pool.map(lambda prompt: caller.generate(prompt, duration_seconds=1), prompts)
    return answers


def latencies(answers: Sequence[Answer]) -> dict[str, object]:
    done = [answer for answer in answers if answer.failure is None]
    return {
        "requests": len(answers),
        "succeeded": len(done),
        "generation_seconds": percentiles([answer.generation_seconds for answer in done]),
        "wall_seconds": percentiles([answer.wall_seconds for answer in done]),
        "queue_seconds": percentiles([answer.queue_seconds for answer in done]),
    }


def report_of(short: Turns, long: Turns, bursts: list[Answer]) -> dict[str, object]:
    answers = short.answers + bursts + long.answers
    failures = [answer.failure for answer in answers if answer.failure is not None]
    # The contract's clips: the longer ones are there for the comparison alone.
    timed = [a.generation_seconds for a in short.answers + bursts if a.failure is None]
    found = percentiles(timed)
    added = statistics.median(short.added_seconds())
    added_long = statistics.median(long.added_seconds())
    return {
        "p95_seconds": found["p95"],
        "p99_seconds": found["p99"],
        "success_rate": round(1 - len(failures) / len(answers), 4),
        "requests": len(answers),
        "share_of_render": round(statistics.median(short.shares()), 4),
        "share_of_long_render": round(statistics.median(long.shares()), 4),
        "added_seconds": round(added, 3),
        "added_seconds_long": round(added_long, 3),
        # The larger of the two, so that what grows with the render is not forgotten.
        "share_of_a_30_s_render": round(max(added, added_long, 0.0) / SCALED_RENDER_SECONDS, 4),
        "share_target": TARGET_SHARE,
        "p50_seconds": found["p50"],
        "direct_p50_seconds": percentiles(short.alone_seconds)["p50"],
        "direct_long_p50_seconds": percentiles(long.alone_seconds)["p50"],
        "failures": failures,
        "one_after_the_other": latencies(short.answers),
        "bursts": latencies(bursts),
        "longer_clips": latencies(long.answers),
        "wall_seconds": [round(answer.wall_seconds, 3) for answer in short.answers],
        "direct_seconds": [round(alone, 3) for alone in short.alone_seconds],
        "excluded": "the first request of each duration, a warm-up",
    }


def show(console: Console, report: dict[str, object]) -> None:
    table = Table(
        *("requests", "done", "generation p50/p95/p99 s", "wall p50/p95/p99 s", "queued p95 s"),
        title=f"POST /generate, {MODEL.name}, preset {PRESET}",
    )
    for name in ("one_after_the_other", "bursts", "longer_clips"):
        found = report[name]
        table.add_row(
            f"{name.replace('_', ' ')}: {found['requests']}",
            str(found["succeeded"]),
            " / ".join(f"{value:.2f}" for value in found["generation_seconds"].values()),
            " / ".join(f"{value:.2f}" for value in found["wall_seconds"].values()),
            f"{found['queue_seconds']['p95']:.2f}",
        )
    console.print(table)
    console.print(
        f"success {report['success_rate']:.2%} of {report['requests']}; the service adds "
        f"{report['added_seconds']:.3f} s to a render of {report['direct_p50_seconds']:.2f} s and "
        f"{report['added_seconds_long']:.3f} s to one of {report['direct_long_p50_seconds']:.2f} s "
        f"({report['share_of_render']:.1%}, {report['share_of_long_render']:.1%}): of a render of "
        f"{SCALED_RENDER_SECONDS:.0f} s that is {report['share_of_a_30_s_render']:.1%}, target "
        f"{TARGET_SHARE:.0%}"
    )
    for failure in report["failures"]:
        console.print(f"failed: {failure}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30)
    parser.add_argument("--bursts", type=int, default=10)
    parser.add_argument("--burst", type=int, default=4, help="requests at once")
    parser.add_argument("--long", type=int, default=5, help="clips of --long-duration")
    parser.add_argument("--long-duration", type=int, default=MODEL.max_duration_seconds)
    parser.add_argument("--duration", type=int, default=1, help="seconds a clip")
    parser.add_argument("--resolution", choices=sorted(MODEL.resolutions), default=RESOLUTION)
    arguments = parser.parse_args()
    console = Console()
    where = machine()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model_dir = folder / "model"
        make_demo_model(model_dir)
        with promptreel_up(folder, model_dir) as http, Direct(MODEL, model_dir) as direct:
            caller = Caller(http, resolution=arguments.resolution)
            short, long = (
                take_turns(
                    caller,
                    direct,
                    count=count,
                    duration_seconds=duration_seconds,
                    resolution=arguments.resolution,
                    console=console,
                )
                for count, duration_seconds in (
                    (arguments.requests, arguments.duration),
                    (arguments.long, arguments.long_duration),
                )
            )
            bursts = burst(caller, bursts=arguments.bursts, size=arguments.burst, console=console)
    report = report_of(short, long, bursts) | {
        "wall_seconds_of_the_benchmark": round(time.monotonic() - started, 1),
        "clip": (
            f"{MODEL.name}, preset {PRESET}, {MODEL.frames(arguments.duration)} frames, longer ones "
            f"{MODEL.frames(arguments.long_duration)}, {arguments.resolution}"
        ),
        **where,
    }
    write_results("slo", report)
    draw_bars(
        {
            f"{duration} s clip": {
                "direct": {"render": statistics.median(turns.alone_seconds), "service": 0.0},
                "POST /generate": {
                    "render": statistics.median(turns.alone_seconds),
                    "service": max(statistics.median(turns.added_seconds()), 0.0),
                },
            }
            for duration, turns in (
                (arguments.duration, short),
                (arguments.long_duration, long),
            )
        },
        RESULTS / "slo.png",
    )
    show(console, report)


if __name__ == "__main__":
    main()
