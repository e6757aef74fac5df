"""One command that makes the packaged model, and goes on where it was stopped.

python -m training [--seed 1] [--frames-steps N] [--flow-steps N] [--motion-steps N]
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan

from training.checkpoints import read_history
from training.curves import draw_curves
from training.few_steps_stage import FewStepsTraining
from training.flow_stage import FlowPlan, FlowTraining
from training.frames_stage import train_frames
from training.motion_stage import train_motion
from training.network import new_vae
from training.package import save_model, whole_vae
from training.sheets import draw_sheet, load_model
from training.slices import slice_by_slice
from training.split import training_scenes

STAGES = ("frames", "motion", "flow", "few_steps")
PACKAGE = Path("services/gpu_worker/engine/shapes")
SAMPLES = (
    "a red circle moving left on a navy background",
    "a yellow star rotating on a black background",
    "a pink triangle bouncing on a white background",
    "a cyan square growing on a teal background",
    "a green star moving up on a sand background",
)


@dataclass(frozen=True)
class Plan:
    """What is done where the command line says nothing else."""

    seed: int = 1
    frames_steps: int = 3000
    motion_steps: int = 700
    flow_steps: int = 4200
    few_steps_steps: int = 300
    clips: int = len(training_scenes())
    tokens: int = 2400  # of the transformer, a step: more where there is a GPU


def main(arguments: Sequence[str] | None = None) -> None:
    directory, package, plan = _read(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    directory.mkdir(parents=True, exist_ok=True)
    train_frames(directory, steps=plan.frames_steps, seed=plan.seed, device=device, report=_say)
    vae = _trained(directory / "frames.pt").to(device)
    train_motion(
        directory,
        _trained(directory / "frames.pt").to(device),
        steps=plan.motion_steps,
        seed=plan.seed,
        report=_say,
    )
    flow_plan = FlowPlan(seed=plan.seed, clips=plan.clips, tokens=plan.tokens)
    flow = FlowTraining(directory, vae, flow_plan, device=device, report=_say)
    flow.train(steps=plan.flow_steps)
    few_steps = FewStepsTraining(
        directory, flow, seed=plan.seed, tokens=plan.tokens // 2, report=_say
    )
    few_steps.train(steps=plan.few_steps_steps)
    _finish(directory, package, flow, few_steps)


def _finish(
    directory: Path, package: Path, flow: FlowTraining, few_steps: FewStepsTraining
) -> None:
    normal = flow.normal()
    save_model(
        package,
        tokenizer=flow.tokenizer,
        text_encoder=flow.average.text_encoder.cpu(),
        transformer=flow.average.transformer.cpu(),
        vae=whole_vae(_weights(directory / "motion.pt"), normal.mean, normal.divisor),
        distilled=few_steps.average.cpu(),
    )
    stages = {name: read_history(directory / f"{name}.pt") for name in STAGES}
    draw_curves(
        {f"{name}: error": history["error"] for name, history in stages.items()},
        directory / "curves.png",
    )
    wan = load_model(package)
    draw_sheet(wan, SAMPLES, directory / "samples.png")
    draw_sheet(wan, SAMPLES, directory / "fast.png", preset="fast")
    draw_sheet(wan, SAMPLES[:3], directory / "guidance.png", guidance_scales=(1.0, 5.0))
    print(f"the model is in {package}, its curves and samples in {directory}")


def _say(text: str) -> None:
    print(text, flush=True)


def _weights(file: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(file, weights_only=True, map_location="cpu")[
        "model"
    ]
    return found


def _trained(file: Path) -> AutoencoderKLWan:
    vae = slice_by_slice(new_vae())
    vae.load_state_dict(_weights(file))
    return vae.requires_grad_(False)


def _read(arguments: Sequence[str] | None) -> tuple[Path, Path, Plan]:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(".training"), help="checkpoints")
    parser.add_argument("--package", type=Path, default=PACKAGE, help="where the model is saved")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    for name, value in vars(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    read = parser.parse_args(arguments)
    torch.set_num_threads(read.threads)
    return (
        read.directory,
        read.package,
        Plan(**{name: getattr(read, name) for name in vars(Plan())}),
    )


if __name__ == "__main__":
    main()
