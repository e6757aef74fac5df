"""The real geometry of Wan 2.1 T2V 1.3B on a GPU, with random weights: ours against plain diffusers.

`diffusers` is `WanPipeline.__call__` to latents and `vae.decode` to a float video; `ours` is what a
worker runs, to bytes, as it is (`ours`) and with its parts compiled (`compiled`). Same weights, sizes,
steps and embeddings, in the same run. diffusers has no way to guide some of the steps only, nor to take
a distilled model's timesteps: it runs `balanced` guided throughout, and `fast` as three steps of UniPC.

How much of the device is used is told against what it does in a large product of matrices in the same run.

Without a CUDA device nothing is rendered: the model's PREDICTION for an L4 is printed and written
instead, marked as one, unless a measured run is there already, which is kept.

    python benchmarks/gpu_wan.py [--steps N] [--quick] [--no-text] [--no-compile]
    python benchmarks/gpu_wan.py --device cpu --tiny     # tries the path, measures nothing of interest

Prints a table, writes benchmarks/results/gpu_wan.json and draws benchmarks/results/gpu_wan.png.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import wan_model
from bars import draw_bars
from figures import RESULTS, machine, read_results, write_results
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from wan_geometry import TINY, WAN_1_3B, Geometry

from services.gpu_worker.backends.backend import Frames, Segment
from shared.catalog import Preset, Size, find_model

MODEL = find_model("wan2.1")
QUICK_PRESETS, QUICK_STEPS = ("reference", "fast"), 4
PROMPT_TOKENS, NEGATIVE_TOKENS, TOKENS_MAX = 24, 110, 512
MATRIX_SIDE, MATRIX_ROUNDS = 8192, 20
STAGES = ("text", "denoise", "decode", "encode")
MEGABYTE = 2**20


@dataclass(frozen=True)
class Clip:
    """One preset by one renderer; with fewer steps than the preset's, if so ordered."""

    seconds: dict[str, float]
    forwards: int
    preset_forwards: int
    peak_mb: float

    @property
    def preset_seconds(self) -> float:
        """Of the whole preset: what was left of its steps is counted as if it went on like that."""
        missing = self.preset_forwards / self.forwards - 1
        return sum(self.seconds.values()) + missing * self.seconds["denoise"]

    @property
    def preset_seconds_to_frames(self) -> float:
        """Without encoding, which diffusers' pipeline has no part in."""
        return self.preset_seconds - self.seconds.get("encode", 0.0)


@dataclass(frozen=True)
class Order:
    """A preset, and the part of its steps that is to be rendered."""

    preset: Preset
    segment: Segment


@dataclass(frozen=True)
class Run:
    """What was measured on one device."""

    geometry: Geometry
    device: str
    matrix_tflops: float
    clips: dict[str, dict[str, Clip]] = field(default_factory=dict)  # by renderer, by preset
    notes: list[str] = field(default_factory=list)

    def share_of_matrix_rate(self, clip: Clip) -> float:
        """Of the arithmetic that the denoising needs, to what the device did of matrices alone."""
        tflop = clip.forwards * wan_model.forward_tflop(self.geometry)
        return tflop / clip.seconds["denoise"] / self.matrix_tflops


class Stopwatch:
    """Waits for the GPU, where there is one, and knows the most memory since it was started."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def timed(self, stage: str, work: Callable[[], object]) -> object:
        self._wait()
        started = time.perf_counter()
        result = work()
        self._wait()
        self.seconds[stage] = time.perf_counter() - started
        return result

    def peak_mb(self) -> float:
        """Weights included; 0 where nobody counts."""
        if self._device.type != "cuda":
            return 0.0
        return torch.cuda.max_memory_allocated(self._device) / MEGABYTE

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Renders:
    """Both ways to render, with the weights of one model."""

    def __init__(
        self, geometry: Geometry, *, device: torch.device, dtype: torch.dtype, with_text: bool
    ) -> None:
        # Here: where there is no GPU, nothing waits for diffusers to be imported.
        from random_wan import make  # noqa: PLC0415

        from services.gpu_worker.engine.denoise import Denoiser  # noqa: PLC0415

        self._wan = make(geometry, device=device, dtype=dtype, with_text=with_text)
        self._geometry, self._device, self._dtype = geometry, device, dtype
        self._denoiser = Denoiser(self._wan.model)

    def ours(self, order: Order) -> Clip:
        segment = order.segment
        watch = Stopwatch(self._device)
        model = self._wan.model
        prompts = [self._embedding(count) for count in (PROMPT_TOKENS, NEGATIVE_TOKENS)]
        if self._wan.text_encoder is not None:
            ids = self._ids(PROMPT_TOKENS)
            # The negative prompt's embedding is remembered from one render to the next.
            prompts[0] = watch.timed("text", lambda: model.text_encoder(ids))
        guided = segment.steps_with_guidance > 0
        latents = watch.timed(
            "denoise",
            lambda: self._denoiser.denoise(segment, prompts if guided else prompts[:1], _ignore),
        )
        frames = watch.timed("decode", lambda: model.decoder.decode(latents, _ignore))
        watch.timed("encode", lambda: _encode(frames, segment.size))
        forwards = segment.steps + segment.steps_with_guidance
        return Clip(watch.seconds, forwards, order.preset.forwards, watch.peak_mb())

    def diffusers(self, order: Order) -> Clip:
        segment = order.segment
        watch = Stopwatch(self._device)
        pipeline = self._wan.pipeline
        scale = segment.guidance_scale if segment.steps_with_guidance else 1.0
        prompts = [self._padded(count) for count in (PROMPT_TOKENS, NEGATIVE_TOKENS)]
        if self._wan.text_encoder is not None:
            texts = 2 if scale > 1 else 1
            watch.timed("text", lambda: [self._read_padded() for _ in range(texts)])
        latents = watch.timed(
            "denoise",
            lambda: (
                pipeline(
                    prompt_embeds=prompts[0],
                    negative_prompt_embeds=prompts[1] if scale > 1 else None,
                    height=segment.size.height,
                    width=segment.size.width,
                    num_frames=segment.frames,
                    num_inference_steps=segment.steps,
                    guidance_scale=scale,
                    generator=torch.Generator("cpu").manual_seed(segment.seed),
                    output_type="latent",
                ).frames
            ),
        )
        vae = pipeline.vae
        watch.timed("decode", lambda: vae.decode(latents.to(vae.dtype), return_dict=False)[0])
        a_step = 2 if scale > 1 else 1
        return Clip(
            watch.seconds, segment.steps * a_step, order.preset.steps * a_step, watch.peak_mb()
        )

    def compile(self, folder: Path) -> None:
        """From now on ours is run by packages. Raises whatever a compiler may."""
        from services.gpu_worker.engine.compiling import (  # noqa: PLC0415
            compile_block,
            compile_piece,
        )
        from services.gpu_worker.engine.packages import (  # noqa: PLC0415
            load_package,
            run_blocks_by,
            run_pieces_by,
        )

        model, geometry = self._wan.model, self._geometry
        height, width = geometry.size.height // 8, geometry.size.width // 8
        latents = (1, geometry.transformer["in_channels"], (geometry.frames - 1) // 4 + 1)
        block, piece = folder / "block.pt2", folder / "piece.pt2"
        compile_block(model.transformer, (*latents, height, width), block)
        shape = compile_piece(model.decoder, height, width, piece).shape
        run_blocks_by(load_package(block), model.transformer)
        run_pieces_by(load_package(piece), model.decoder, shape=shape)

    def _ids(self, count: int) -> torch.Tensor:
        return torch.zeros(1, count, dtype=torch.long, device=self._device)

    def _embedding(self, count: int) -> torch.Tensor:
        width = self._geometry.transformer["text_dim"]
        return torch.randn(1, count, width, device=self._device).to(self._dtype)

    def _padded(self, count: int) -> torch.Tensor:
        return torch.nn.functional.pad(self._embedding(count), (0, 0, 0, TOKENS_MAX - count))

    def _read_padded(self) -> torch.Tensor:
        """As diffusers reads a prompt: at its full length, the padding masked."""
        mask = self._ids(TOKENS_MAX)
        mask[:, :PROMPT_TOKENS] = 1
        states: torch.Tensor = self._wan.text_encoder(self._ids(TOKENS_MAX), mask).last_hidden_state
        return states


def order_of(preset: Preset, geometry: Geometry, *, steps_max: int | None, seed: int) -> Order:
    steps = min(preset.steps, steps_max or preset.steps)
    segment = Segment(
        prompt="",
        negative_prompt="",
        seed=seed,
        frames=geometry.frames,
        size=geometry.size,
        steps=steps,
        guidance_scale=preset.guidance_scale,
        flow_shift=preset.flow_shift,
        scheduler=preset.scheduler,
        timesteps=preset.timesteps[:steps],
        guided_steps=min(preset.guided_steps, steps),
    )
    return Order(preset, segment)


def matrix_tflops(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """What the device does of one large product, median: the rate that a render is held against."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    rates = []
    for _ in range(MATRIX_ROUNDS):
        watch = Stopwatch(device)
        watch.timed("product", lambda: left @ right)
        rates.append(2 * side**3 / 1e12 / watch.seconds["product"])
    return statistics.median(rates)


def measure(
    geometry: Geometry,
    device: torch.device,
    *,
    presets: Mapping[str, Preset],
    steps_max: int | None,
    with_text: bool,
    compiles: bool,
    console: Console,
) -> Run:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    is_cuda = device.type == "cuda"
    rate = matrix_tflops(device, dtype, MATRIX_SIDE if is_cuda else 512)
    name = torch.cuda.get_device_name(device) if is_cuda else "cpu"
    run = Run(geometry, name, rate)
    console.print(f"{name}: {rate:.2f} TFLOP/s of {dtype} matrices")
    with torch.inference_mode():
        renders = Renders(geometry, device=device, dtype=dtype, with_text=with_text)
        how = {"presets": presets, "steps_max": steps_max, "console": console}
        _render_all(run, renders, ("diffusers", "ours"), **how)
        if compiles:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    renders.compile(Path(folder))
                    _render_all(run, renders, ("compiled",), **how)
            except Exception as error:  # noqa: BLE001 - a compiler may fail in any way: the rest is measured
                run.notes.append(f"not compiled: {type(error).__name__}: {str(error)[:300]}")
    return run


def _render_all(
    run: Run,
    renders: Renders,
    kinds: tuple[str, ...],
    *,
    presets: Mapping[str, Preset],
    steps_max: int | None,
    console: Console,
) -> None:
    ways = {"diffusers": renders.diffusers, "ours": renders.ours, "compiled": renders.ours}
    first = next(iter(presets.values()))
    for kind in kinds:
        # Kernels are chosen for a shape: with guidance and without, for both are to come.
        for guided_steps in (1, 0):
            warm_up = replace(first, guided_steps=guided_steps)
            ways[kind](order_of(warm_up, run.geometry, steps_max=1, seed=0))
    for name, preset in presets.items():
        if preset.decoder == "tiny":
            run.notes.append(f"{name}: not run, the tiny decoder's weights are a file")
            continue
        for kind in kinds:
            clip = ways[kind](order_of(preset, run.geometry, steps_max=steps_max, seed=1))
            run.clips.setdefault(kind, {})[name] = clip
            console.print(
                f"{name}, {kind}: {sum(clip.seconds.values()):.2f} s, {clip.forwards} forwards"
            )


def report_of(run: Run) -> dict[str, object]:
    ours, theirs = run.clips["ours"], run.clips["diffusers"]
    return {
        "predicted": False,
        "device": run.device,
        **{
            f"ratio_{name}": round(
                ours[name].preset_seconds_to_frames / theirs[name].preset_seconds_to_frames, 3
            )
            for name in ours
        },
        **{
            f"{kind}_seconds": {name: round(clip.preset_seconds, 3) for name, clip in clips.items()}
            for kind, clips in run.clips.items()
        },
        "extrapolated_from_fewer_steps": any(
            clip.forwards < clip.preset_forwards for clip in ours.values()
        ),
        "matrix_tflops": round(run.matrix_tflops, 2),
        "share_of_matrix_rate": {
            kind: {name: round(run.share_of_matrix_rate(clip), 3) for name, clip in clips.items()}
            for kind, clips in run.clips.items()
        },
        "peak_mb": {
            kind: {name: round(clip.peak_mb) for name, clip in clips.items()}
            for kind, clips in run.clips.items()
        },
        "rendered": {
            kind: {
                name: {"forwards": clip.forwards}
                | {stage: round(value, 3) for stage, value in clip.seconds.items()}
                for name, clip in clips.items()
            }
            for kind, clips in run.clips.items()
        },
        "notes": list(run.notes),
        "clip": f"{run.geometry.name}, {run.geometry.frames} frames of {run.geometry.size}",
        "torch": torch.__version__,
    }


def prediction() -> dict[str, object]:
    """Where there is no GPU: what `wan_model.py` says of an L4."""
    stages = {name: wan_model.predict(preset) for name, preset in MODEL.presets.items()}
    return {
        "predicted": True,
        "device": wan_model.L4.name,
        "ours_seconds": {name: wan_model.total(parts).rounded(1) for name, parts in stages.items()},
        "forward_tflop": round(wan_model.forward_tflop(), 1),
        "stage_seconds": {
            name: {stage: seconds.rounded() for stage, seconds in parts.items()}
            for name, parts in stages.items()
        },
        "notes": ["nothing was rendered: there is no CUDA device here"],
    }


def show(console: Console, run: Run) -> None:
    table = Table(
        *("preset", "by", "passes", *STAGES, "whole", "rate", "GB"),
        title=f"{run.geometry.name} on {run.device}: seconds, share of matrix rate, peak memory",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in run.clips["ours"]:
        for kind, clips in run.clips.items():
            clip = clips[name]
            table.add_row(
                name if kind == "diffusers" else "",
                kind,
                f"{clip.forwards}/{clip.preset_forwards}",
                *(
                    f"{clip.seconds[stage]:.2f}" if stage in clip.seconds else ""
                    for stage in STAGES
                ),
                f"{clip.preset_seconds:.2f}",
                f"{run.share_of_matrix_rate(clip):.0%}",
                f"{clip.peak_mb / 1024:.1f}" if clip.peak_mb else "",
            )
    console.print(table)
    for note in run.notes:
        console.print(note)


def show_prediction(console: Console) -> None:
    table = Table(
        *("preset", "PREDICTED s", *STAGES),
        title="no CUDA device: predicted for an L4, seconds",
        box=SIMPLE,
    )
    for name, preset in MODEL.presets.items():
        stages = wan_model.predict(preset)
        cells = (str(stages[stage]) for stage in STAGES)
        table.add_row(name, str(wan_model.total(stages)), *cells)
    console.print(table)


def _encode(frames: Frames, size: Size) -> None:
    from services.gpu_worker.engine.video import encode_video  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        encode_video(frames, Path(folder) / "clip.mp4", fps=MODEL.fps, size=size)


def _ignore(*_: object) -> None:
    """Nobody looks on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, help="at most so many a preset; the rest is added up")
    parser.add_argument("--frames", type=int, help="4 times a whole number, plus 1")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--presets", nargs="+", choices=sorted(MODEL.presets))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_STEPS} steps, two presets")
    parser.add_argument("--no-text", action="store_true", help="saves the text encoder's 11 GB")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a tiny geometry; writes nothing")
    arguments = parser.parse_args()
    console = Console()
    where = machine()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        show_prediction(console)
        earlier = read_results("gpu_wan")
        if earlier is not None and not earlier["predicted"]:
            console.print(f"results/gpu_wan.json keeps what was measured on {earlier['device']}")
        else:
            write_results("gpu_wan", prediction())
            draw_bars(wan_model.bars(MODEL.presets), RESULTS / "gpu_wan.png")
        return
    geometry = TINY if arguments.tiny else WAN_1_3B
    geometry = replace(
        geometry,
        frames=arguments.frames or geometry.frames,
        size=Size(*arguments.size) if arguments.size else geometry.size,
    )
    names = arguments.presets or (QUICK_PRESETS if arguments.quick else tuple(MODEL.presets))
    run = measure(
        geometry,
        torch.device(arguments.device),
        presets={name: MODEL.presets[name] for name in names},
        steps_max=arguments.steps or (QUICK_STEPS if arguments.quick else None),
        with_text=not arguments.no_text,
        compiles=not arguments.no_compile,
        console=console,
    )
    if not arguments.tiny:
        write_results("gpu_wan", report_of(run) | where)
        draw_bars(
            {
                name: {
                    kind: {stage: clips[name].seconds.get(stage, 0.0) for stage in STAGES}
                    for kind, clips in run.clips.items()
                }
                for name in run.clips["ours"]
            },
            RESULTS / "gpu_wan.png",
        )
    show(console, run)


if __name__ == "__main__":
    main()
