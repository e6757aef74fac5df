"""What joining a long video costs: its segments copied as they are, against all of it encoded again.

Segments are encoded so that they can be copied. The alternative is what joining costs whoever has not
planned for it: every frame decoded, and encoded by the same encoder. Both in turn, each in a process of its
own, for whose peak of memory the system vouches.

    python benchmarks/stitch.py [--runs 5] [--segments 12]

Prints a table and writes benchmarks/results/stitch.json.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from figures import machine, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services.gpu_worker.engine.joining import Piece, join_pieces
from services.gpu_worker.engine.video import encode_video
from shared.catalog import find_model

MODEL = find_model("wan2.1")
SIZE, FRAMES = MODEL.native_size, MODEL.frames(MODEL.max_duration_seconds)
WAYS = ("copied", "encoded again")


def make_segments(folder: Path, count: int) -> list[Path]:
    """Soft clouds that move: what an encoder finds as hard as a film."""
    files = []
    for number in range(count):
        dice = np.random.default_rng(number)
        cloud = dice.integers(0, 256, (SIZE.height // 16 + 1, SIZE.width // 16 + 6, 3), np.uint8)
        large = cloud.repeat(16, axis=0).repeat(16, axis=1)
        frames = (large[: SIZE.height, shift : shift + SIZE.width] for shift in range(FRAMES))
        files.append(folder / f"{number}.mp4")
        encode_video(frames, files[-1], fps=MODEL.fps, size=SIZE)
    return files


def join(way: str, folder: Path, count: int) -> None:
    """One run, in this process: prints its seconds and its peak of memory."""
    # One frame less of one segment: then nothing can be copied.
    cut = FRAMES - 1 if way == "encoded again" else None
    pieces = [Piece(folder / f"{number}.mp4", frames=cut) for number in range(count)]
    started = time.perf_counter()
    joined = join_pieces(pieces, folder / "joined.mp4", fps=MODEL.fps, size=SIZE)
    seconds = time.perf_counter() - started
    assert joined.remuxed == (way == "copied")
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(way: str, folder: Path, count: int) -> tuple[float, float]:
    """Seconds, and MB at the peak."""
    command = [sys.executable, __file__, "--join", way, "--folder", str(folder)]
    done = subprocess.run(
        [*command, "--segments", str(count)], capture_output=True, text=True, check=True
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--join", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.join:
        join(arguments.join, arguments.folder, arguments.segments)
        return
    console = Console()
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        make_segments(Path(folder), arguments.segments)
        for _ in track(range(arguments.runs), "joining", console=console):
            for way in WAYS:
                found[way].append(measure(way, Path(folder), arguments.segments))
    seconds = {way: [run[0] for run in runs] for way, runs in found.items()}
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    table = Table("", "median s", "from", "to", "peak MB")
    for way in WAYS:
        peak = statistics.median(run[1] for run in found[way])
        spread = f"{min(seconds[way]):.2f}", f"{max(seconds[way]):.2f}"
        table.add_row(way, f"{medians[way]:.2f}", *spread, f"{peak:.0f}")
    console.print(table)
    ratio = medians["copied"] / medians["encoded again"]
    console.print(f"copied / encoded again: {ratio:.3f}")
    figures = {
        "copied_over_encoded_again": round(ratio, 4),
        "segments": arguments.segments,
        "frames_each": FRAMES,
        "size": str(SIZE),
        "runs": arguments.runs,
        "seconds": {way: [round(value, 3) for value in seconds[way]] for way in WAYS},
        "peak_mb": {way: round(statistics.median(run[1] for run in found[way])) for way in WAYS},
        "machine": machine(),
    }
    console.print(f"written to {write_results('stitch', figures)}")


if __name__ == "__main__":
    main()
