"""The engine's fast path against diffusers' own pipeline: same weights, seed, steps and prompts.

`diffusers` is plain `WanPipeline.__call__` to latents and `vae.decode` to a float video; `ours` is what a
worker runs, to bytes. Encoding to a file is in neither. Both render in turn on the same machine, ours
first in every other round, and no prompt is used twice, so that no embedding of one is remembered. The
negative prompt's is, as in a worker.

    python benchmarks/engine.py [--rounds 5] [--seconds 300] [--large]

Prints tables, writes benchmarks/results/engine.json and draws benchmarks/results/engine.png.
"""

import argparse
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import torch
from bars import draw_bars
from figures import RESULTS, machine, write_results
from rich.console import Console
from rich.table import Table

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.checkpoint import Checkpoint
from services.gpu_worker.engine.demo_model import make_demo_model
from services.gpu_worker.engine.denoise import Denoiser
from services.gpu_worker.engine.device import resolve_device, resolve_dtype
from services.gpu_worker.engine.reference import load_pipeline
from services.gpu_worker.engine.text import TOKENS_MAX, TextEncoder
from shared.catalog import Preset, Size, find_model

MODEL = find_model("wan2.1-demo")
PRESET = MODEL.presets["reference"]
SIZES = [(17, Size(112, 64)), (33, Size(208, 128)), (49, Size(320, 192)), (81, Size(416, 240))]
LARGE = (81, Size(832, 480))
STAGES = ("text", "denoise", "decode", "whole")
SMALL_RENDERS = 50


class Nobody:
    """A watcher that does not look."""

    def step_done(self, step: int, steps: int) -> None:
        pass

    def decoded(self, fraction: float) -> None:
        pass


class Ours:
    def __init__(self, checkpoint: Checkpoint, **where: object) -> None:
        model = checkpoint.load(**where)
        self._text = TextEncoder(model.tokenizer, model.text_encoder)
        self._denoiser = Denoiser(model)
        self._decoder = model.decoder

    def render(self, segment: Segment) -> dict[str, float]:
        """Seconds a stage."""
        lap = Laps()
        guided = segment.steps_with_guidance > 0
        texts = (segment.prompt, segment.negative_prompt) if guided else (segment.prompt,)
        embeddings = [self._text.encode(text) for text in texts]
        lap.done("text")
        latents = self._denoiser.denoise(segment, embeddings, Nobody().step_done)
        lap.done("denoise")
        self._decoder.decode(latents, Nobody().decoded)
        lap.done("decode")
        return lap.seconds


class Diffusers:
    def __init__(self, checkpoint: Checkpoint, **where: object) -> None:
        self._pipeline = load_pipeline(checkpoint, **where)

    def render(self, segment: Segment) -> dict[str, float]:
        """Seconds a stage; the text is encoded by the pipeline's own method, then handed to it."""
        lap = Laps()
        prompt, negative = self._pipeline.encode_prompt(
            segment.prompt, segment.negative_prompt, max_sequence_length=TOKENS_MAX
        )
        lap.done("text")
        latents = self._pipeline(
            prompt_embeds=prompt,
            negative_prompt_embeds=negative,
            height=segment.size.height,
            width=segment.size.width,
            num_frames=segment.frames,
            num_inference_steps=segment.steps,
            guidance_scale=segment.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(segment.seed),
            output_type="latent",
        ).frames
        lap.done("denoise")
        vae = self._pipeline.vae
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).to(latents).view(shape)
        std = torch.tensor(vae.config.latents_std).to(latents).view(shape)
        vae.decode(latents * std + mean, return_dict=False)
        lap.done("decode")
        return lap.seconds


class Laps:
    """A stopwatch that waits for the GPU, where there is one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = self._now()

    def done(self, stage: str) -> None:
        now = self._now()
        self.seconds[stage] = now - self._since
        self.seconds["whole"] = self.seconds.get("whole", 0.0) + self.seconds[stage]
        self._since = now

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


KINDS = {"ours": Ours, "diffusers": Diffusers}


@dataclass(frozen=True)
class Figures:
    """One size, measured."""

    name: str
    seconds: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {kind: [] for kind in KINDS}
    )

    def median(self, kind: str, stage: str) -> float:
        return statistics.median(laps[stage] for laps in self.seconds[kind])

    def ratios(self, stage: str) -> list[float]:
        """Ours to diffusers, pair by pair, so that what disturbs the machine disturbs both."""
        pairs = zip(self.seconds["ours"], self.seconds["diffusers"], strict=True)
        return [ours[stage] / plain[stage] for ours, plain in pairs]

    def report(self) -> dict[str, object]:
        stages = {}
        for stage in STAGES:
            ratios = self.ratios(stage)
            stages[stage] = {
                "ratio_median": round(statistics.median(ratios), 3),
                "ratio_min_max": [round(min(ratios), 3), round(max(ratios), 3)],
            } | {
                f"{kind}_seconds": [round(laps[stage], 4) for laps in self.seconds[kind]]
                for kind in KINDS
            }
        return stages


def segment_of(frames: int, size: Size, number: int, preset: Preset = PRESET) -> Segment:
    return Segment(
        prompt=f"a red circle moves left, take {number}",
        negative_prompt=find_model("wan2.1").negative_prompt,
        seed=number,
        frames=frames,
        size=size,
        steps=preset.steps,
        guidance_scale=preset.guidance_scale,
        flow_shift=preset.flow_shift,
        scheduler=preset.scheduler,
        timesteps=preset.timesteps,
        guided_steps=preset.guided_steps,
    )


def measure(
    renderers: dict[str, Ours | Diffusers],
    sizes: list[tuple[int, Size]],
    *,
    rounds: int,
    seconds: float,
    console: Console,
) -> list[Figures]:
    """Small sizes take all their rounds; large ones as many, at least two, as the time allows."""
    figures = []
    started = time.monotonic()
    number = 0
    for position, (frames, size) in enumerate(sizes, start=1):
        measured = Figures(f"{frames}x{size.height}x{size.width}")
        until = started + seconds * (position / len(sizes)) ** 2
        for renderer in renderers.values():
            renderer.render(
                segment_of(frames, size, 10_000 + position)
            )  # kernels are made for a shape
        while len(measured.seconds["ours"]) < rounds:
            enough = len(measured.seconds["ours"]) >= 2  # noqa: PLR2004 - a spread needs two
            if enough and time.monotonic() > until:
                break
            number += 1
            order = list(renderers) if number % 2 else list(reversed(renderers))
            for kind in order:
                laps = renderers[kind].render(segment_of(frames, size, number))
                measured.seconds[kind].append(laps)
        console.print(f"{measured.name}: {statistics.median(measured.ratios('whole')):.3f}")
        figures.append(measured)
    return figures


def peak_mb(kind: str, model_dir: Path, frames: int, size: Size) -> float:
    """What one render adds to a process of its own at its peak, beyond the loaded model."""
    command = [sys.executable, __file__, "--peak", kind, str(model_dir)]
    command += [str(frames), str(size.width), str(size.height)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def print_peak(kind: str, model_dir: Path, frames: int, size: Size) -> None:
    renderer = load(kind, model_dir)
    with torch.inference_mode():
        renderer.render(replace(segment_of(5, Size(112, 64), 0), steps=1))
        before = loaded_mb()
        forget_peak()
        renderer.render(replace(segment_of(frames, size, 1), steps=1))
    print(round(peak_so_far_mb() - before, 1))


def loaded_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 2**20
    return psutil.Process().memory_info().rss / 2**20


def forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    Path("/proc/self/clear_refs").write_text("5")  # Linux


def peak_so_far_mb() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def growth_mb(ours: Ours) -> list[float]:
    """The process's size, less what it was at the first, after each ten small renders."""
    sizes = []
    for number in range(SMALL_RENDERS + 1):
        ours.render(replace(segment_of(17, Size(112, 64), 1000 + number), steps=1))
        if number % 10 == 0:
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss / 2**20)
    return [round(size - sizes[0], 1) for size in sizes]


def preset_seconds(ours: Ours) -> dict[str, float]:
    """A whole clip of the demo's own length and size, once by each preset; nothing to compare it to."""
    frames = MODEL.frames(MODEL.max_duration_seconds)
    found = {}
    for number, (name, preset) in enumerate(MODEL.presets.items()):
        segment = segment_of(frames, MODEL.native_size, 20_000 + number, preset)
        found[name] = round(ours.render(segment)["whole"], 2)
    return found


def load(kind: str, model_dir: Path) -> Ours | Diffusers:
    device = resolve_device("auto")
    checkpoint = Checkpoint(model_dir, how_to_get="")
    return KINDS[kind](checkpoint, device=device, dtype=resolve_dtype("auto", device))


def show(console: Console, figures: list[Figures], peaks: dict[str, dict[str, float]]) -> None:
    table = Table("clip", "stage", "diffusers s", "ours s", "ratio", "spread", "peak MB")
    for measured in figures:
        for stage in STAGES:
            ratios = measured.ratios(stage)
            peak = peaks[measured.name] if stage == "whole" else {}
            table.add_row(
                measured.name if stage == STAGES[0] else "",
                stage,
                f"{measured.median('diffusers', stage):.3f}",
                f"{measured.median('ours', stage):.3f}",
                f"{statistics.median(ratios):.3f}",
                f"{min(ratios):.3f} to {max(ratios):.3f}",
                f"{peak['diffusers']:.0f} → {peak['ours']:.0f}" if peak else "",
            )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=240, help="for the timed renders")
    parser.add_argument("--large", action="store_true", help="also 81x480x832, many minutes")
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        kind, model_dir, frames, width, height = arguments.peak
        print_peak(kind, Path(model_dir), int(frames), Size(int(width), int(height)))
        return
    console = Console()
    where = machine()
    sizes = SIZES + [LARGE] * arguments.large
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model_dir = Path(folder) / "model"
        make_demo_model(model_dir)
        renderers = {kind: load(kind, model_dir) for kind in KINDS}
        # First: what larger renders leave free in the heap would hide it.
        growth = growth_mb(renderers["ours"])
        figures = measure(
            renderers, sizes, rounds=arguments.rounds, seconds=arguments.seconds, console=console
        )
        by_preset = preset_seconds(renderers["ours"])
        peaks = {
            measured.name: {kind: peak_mb(kind, model_dir, *size) for kind in KINDS}
            for measured, size in zip(figures, sizes, strict=True)
        }
    report = {f"ratio_{m.name}": round(statistics.median(m.ratios("whole")), 3) for m in figures}
    report |= {
        "growth_mb_over_50_small_renders": growth,
        "preset_seconds": by_preset,
        "peak_mb": peaks,
        "stages": {measured.name: measured.report() for measured in figures},
        "clip": f"demo model, {PRESET.steps} steps, guidance {PRESET.guidance_scale}",
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        **where,
    }
    write_results("engine", report)
    draw_bars(
        {
            measured.name: {
                kind: {stage: measured.median(kind, stage) for stage in STAGES[:-1]}
                for kind in ("diffusers", "ours")
            }
            for measured in figures
        },
        RESULTS / "engine.png",
    )
    show(console, figures, peaks)
    console.print(f"ours, {MODEL.native_size}, whole presets, s: {by_preset}")
    console.print(f"growth over {SMALL_RENDERS} small renders, MB, each ten: {growth}")


if __name__ == "__main__":
    main()
