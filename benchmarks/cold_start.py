"""From a fresh process to a model that could render: a snapshot's start against diffusers' own.

`snapshot` and `checkpoint` are a worker's render process over its pipes, from its spawn to `Ready`:
once with what `promptreel bake` made of the demo model, once with the model's own files. `reference`
is a fresh interpreter until diffusers' `WanPipeline.from_pretrained` has returned. They start in turn,
and all files are in the page cache: it is the program's own cold start, not the disk's.

What each phase takes is measured apart, in a few starts of `start_phases.py`, which takes the parts one
after the other. From these, from counted bytes and from stated assumptions comes a PREDICTION for the
real model on an L4, which nobody has measured here.

    python benchmarks/cold_start.py [--starts 20] [--phase-starts 5]

Prints tables, writes benchmarks/results/cold_start.json and draws benchmarks/results/cold_start.png.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import start_model
from bars import draw_bars
from direct import Direct
from figures import RESULTS, machine, percentiles, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table
from start_model import Measured, Prediction
from wan_geometry import WAN_1_3B

from services.gpu_worker.engine.bake import bake
from services.gpu_worker.engine.demo_model import make_demo_model
from services.gpu_worker.engine.manifest import read_manifest
from shared.catalog import find_model

MODEL = find_model("wan2.1-demo")
KINDS = ("snapshot", "checkpoint", "reference")
TARGET_P95_SECONDS, TARGET_P99_SECONDS = 2.5, 4.0
REFERENCE = """
import sys
from pathlib import Path
from services.gpu_worker.engine.reference import load_reference
load_reference(Path(sys.argv[1]), device="cpu", dtype="auto", how_to_get="")
print("ready", flush=True)
"""
# Parts of a start that are independent of the model's files: timed at the real model's size.
REAL_PARTS = """
import json, sys, time
from pathlib import Path
import torch
from services.gpu_worker.engine.decode import Decoder, DecoderConfig
from services.gpu_worker.engine.model import unfilled
from services.gpu_worker.engine.text import load_tokenizer
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig
from services.gpu_worker.engine.umt5 import UMT5Config, UMT5Encoder
from services.gpu_worker.engine.weights_file import WeightsFile
tokenizer, weights, configs = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
started = time.perf_counter()
load_tokenizer(tokenizer)
parsed = time.perf_counter()
unfilled(lambda: UMT5Encoder(UMT5Config.from_config(configs["text_encoder"])))
unfilled(lambda: Transformer(TransformerConfig.from_config(configs["transformer"])))
unfilled(lambda: Decoder(DecoderConfig.from_config(configs["vae"])))
made = time.perf_counter()
with WeightsFile(weights, weights.stat().st_size) as file:
    file.read_into(lambda start, piece: None)
print(json.dumps([parsed - started, made - parsed, time.perf_counter() - made]))
"""
VOCABULARY = 256_300  # pieces; the real tokenizer.json has 16.8 MB
CACHED_BYTES = 2**30


def start_seconds(kind: str, model_dir: Path, snapshot_dir: Path) -> float:
    """One fresh start, ended again."""
    if kind == "reference":
        return reference_seconds(model_dir)
    with Direct(
        MODEL, model_dir, snapshot_dir=snapshot_dir if kind == "snapshot" else None
    ) as process:
        return process.start_seconds


def reference_seconds(model_dir: Path) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", REFERENCE, str(model_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        ready = process.stdout.readline()
        seconds = time.perf_counter() - started
    assert ready == b"ready\n", ready
    return seconds


def phase_seconds(kind: str, model_dir: Path, snapshot_dir: Path) -> dict[str, float]:
    script = str(Path(__file__).with_name("start_phases.py"))
    command = [sys.executable, script, kind, str(time.monotonic())]
    done = subprocess.run(
        [*command, str(model_dir), str(snapshot_dir)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def median_phases(
    model_dir: Path, snapshot_dir: Path, *, starts: int
) -> dict[str, dict[str, float]]:
    """By kind; in turn, so that what disturbs the machine disturbs all."""
    runs = [
        {kind: phase_seconds(kind, model_dir, snapshot_dir) for kind in KINDS}
        for _ in range(starts)
    ]
    return {
        kind: {
            phase: statistics.median(run[kind][phase] for run in runs) for phase in runs[0][kind]
        }
        for kind in KINDS
    }


def measure_for_the_real_model(folder: Path, phases: dict[str, float]) -> Measured:
    """What of the real model's start can be measured without its files and without a GPU."""
    tokenizer, weights = folder / "tokenizer.json", folder / "weights.bin"
    write_tokenizer(tokenizer)
    weights.write_bytes(b"\1" * CACHED_BYTES)
    command = [sys.executable, "-c", REAL_PARTS, str(tokenizer), str(weights)]
    command.append(json.dumps(WAN_1_3B.configs()))
    runs = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    # The fastest: other work on this machine is no part of what is predicted.
    tokenizer_seconds, modules_seconds, read_seconds = map(min, zip(*runs, strict=True))
    return Measured(
        process=phases["interpreter"] + phases["our imports"],
        torch=phases["import torch"],
        engine=phases["engine and tokenizers"],
        modules=modules_seconds,
        tokenizer=tokenizer_seconds,
        page_cache_gb_a_second=CACHED_BYTES / 1e9 / read_seconds,
    )


def write_tokenizer(file: Path) -> None:
    """Made up, of the kind and the size of the real one."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(f"▁piece{number:06}", -float(number)) for number in range(VOCABULARY)]
    model = {"type": "Unigram", "unk_id": 2, "vocab": vocabulary, "byte_fallback": False}
    # Indented as the real file is, which is much of its size.
    file.write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "model": model}, indent=1),
        encoding="utf-8",
    )


def show_starts(console: Console, seconds: dict[str, list[float]]) -> None:
    table = Table("start", "p50 s", "p95 s", "p99 s", "smallest", "largest", title="to ready")
    for kind, values in seconds.items():
        figures = [f"{value:.2f}" for value in percentiles(values).values()]
        table.add_row(kind, *figures, f"{min(values):.2f}", f"{max(values):.2f}")
    console.print(table)
    found = percentiles(seconds["snapshot"])
    console.print(
        f"target p95 {TARGET_P95_SECONDS} s: {_word(found['p95'] <= TARGET_P95_SECONDS)}; "
        f"p99 {TARGET_P99_SECONDS} s: {_word(found['p99'] <= TARGET_P99_SECONDS)}"
    )


def show_phases(console: Console, phases: dict[str, dict[str, float]]) -> None:
    table = Table(
        "start", "phase", "s", title="phases, one after the other, in starts of their own"
    )
    for kind, found in phases.items():
        for phase, seconds in found.items():
            table.add_row(kind if phase == "interpreter" else "", phase, f"{seconds:.3f}")
    console.print(table)


def show_predictions(console: Console, predictions: list[Prediction]) -> None:
    table = Table(
        *("text encoder", "weights from", "PREDICTED s", "largest term", "verdict"),
        title=(
            "the real model on an L4: a prediction; contract "
            f"p95 {start_model.TARGET_P95_SECONDS:.0f} s, "
            f"p99 {start_model.TARGET_P99_SECONDS:.0f} s"
        ),
    )
    for case in predictions:
        table.add_row(
            case.text_encoder,
            case.storage,
            f"{case.seconds:.1f}",
            f"{case.dominant.name}, {case.dominant.seconds:.1f} s",
            case.verdict,
        )
    console.print(table)


def _word(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="of each kind")
    parser.add_argument("--phase-starts", type=int, default=5, help="of each kind")
    arguments = parser.parse_args()
    console = Console()
    where = machine()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model_dir, snapshot_dir = folder / "model", folder / "snapshot"
        make_demo_model(model_dir)
        bake(MODEL, model_dir, snapshot_dir, report=console.print)
        packages = list(read_manifest(snapshot_dir).packages)
        for kind in KINDS:
            start_seconds(kind, model_dir, snapshot_dir)  # brings the files into the page cache
        seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for _ in track(range(arguments.starts), "starts, in turn", console=console):
            for kind in KINDS:
                seconds[kind].append(start_seconds(kind, model_dir, snapshot_dir))
        phases = median_phases(model_dir, snapshot_dir, starts=arguments.phase_starts)
        measured = measure_for_the_real_model(folder, phases["snapshot"])
    predictions = [
        start_model.predict(text_encoder, storage, measured)
        for text_encoder in ("bfloat16", "float8")
        for storage in ("disk", "page cache")
    ]
    found = {kind: percentiles(values) for kind, values in seconds.items()}
    report = {
        "snapshot_p95_seconds": found["snapshot"]["p95"],
        "snapshot_p99_seconds": found["snapshot"]["p99"],
        "reference_p95_seconds": found["reference"]["p95"],
        "checkpoint_p95_seconds": found["checkpoint"]["p95"],
        "ratio_to_reference_median": round(found["snapshot"]["p50"] / found["reference"]["p50"], 3),
        "starts": arguments.starts,
        "compiled": packages,
        "percentiles_seconds": found,
        "phase_seconds": {
            kind: {phase: round(value, 3) for phase, value in parts.items()}
            for kind, parts in phases.items()
        },
        "prediction_for_1_3b_on_l4": [case.report() for case in predictions],
        "seconds": {kind: [round(value, 3) for value in seconds[kind]] for kind in KINDS},
        "clip": f"{MODEL.name}, files in the page cache",
        **where,
    }
    write_results("cold_start", report)
    draw_bars({"phases": group_phases(phases)}, RESULTS / "cold_start.png")
    show_starts(console, seconds)
    show_phases(console, phases)
    show_predictions(console, predictions)


def group_phases(phases: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The same few for each kind, so that their bars can be compared."""
    stages = {
        "interpreter, ours": ("interpreter", "our imports", "engine and tokenizers"),
        "import torch": ("import torch",),
        "diffusers": ("import diffusers, transformers",),
        "model": ("read weights", "tokenizer", "modules", "packages", "from_pretrained"),
    }
    return {
        kind: {
            stage: sum(found.get(part, 0.0) for part in parts) for stage, parts in stages.items()
        }
        for kind, found in phases.items()
    }


if __name__ == "__main__":
    main()
