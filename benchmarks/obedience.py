"""Does the packaged model show what was asked for? Judged by what is seen in its videos.

    python benchmarks/obedience.py [--prompts N] [--frames N] [--preset NAME …]

The prompts name scenes whose colour, shape and motion never came together in training. Each is
rendered by a worker's own render process to an MP4, and plain vision on its decoded pixels says what
there is to see. As a control the same videos are judged by the prompts of others: what would be right
by chance is told, too.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from direct import Direct
from figures import machine, write_results
from rich.console import Console
from rich.table import Table

from shared.catalog import find_model
from shared.config import load_config
from shared.job import RenderRequest

sys.path.append(str(Path(__file__).parents[1]))  # what trains is not installed
from training.captions import prompt
from training.judge import Seen, look_at
from training.split import held_out_scenes
from training.world import Scene

MODEL = find_model("wan2.1-shapes")
PROPERTIES = ("colour", "background", "motion", "shape")
WANTED = {"colour": 0.95, "background": 0.95, "motion": 0.90, "shape": 0.85}
SEED = 7  # of the choice of scenes; the clip of scene i has seed i


def interval(right: int, count: int) -> tuple[float, float]:
    """Of a share, with 95 % confidence: Wilson's."""
    z = 1.96
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def shares(scenes: Sequence[Scene], seen: Sequence[Seen]) -> dict[str, dict[str, object]]:
    """Of each property the share that is as the scene says, and its confidence interval."""
    result: dict[str, dict[str, object]] = {}
    for name in PROPERTIES:
        right = sum(getattr(a, name) == getattr(b, name) for a, b in zip(scenes, seen, strict=True))
        low, high = interval(right, len(scenes))
        result[name] = {
            "share": round(right / len(scenes), 4),
            "interval": [round(low, 4), round(high, 4)],
        }
    return result


def render_and_judge(
    direct: Direct, scenes: Sequence[Scene], *, preset: str, frames: int, console: Console
) -> tuple[list[Seen], float]:
    """What is seen for each scene, and the seconds a render took."""
    seen, seconds = [], 0.0
    for number, scene in enumerate(scenes):
        request = RenderRequest(
            prompt=prompt(scene),
            model=MODEL.name,
            duration_seconds=5,
            frames=frames,
            resolution="480p",
            preset=preset,
            seed=number,
        )
        with tempfile.TemporaryDirectory() as folder:
            seconds += direct.render_to(Path(folder), request)
            seen.append(look_at(Path(folder) / "final_video.mp4"))
        missed = [name for name in PROPERTIES if getattr(scene, name) != getattr(seen[-1], name)]
        if missed:
            console.print(f"{preset}: {request.prompt}: missed {', '.join(missed)}: {seen[-1]}")
    return seen, seconds / len(scenes)


def evaluate(
    directory: Path, *, prompts: int, frames: int, presets: Sequence[str], console: Console
) -> dict[str, object]:
    scenes = held_out_scenes(prompts, seed=SEED)
    others = scenes[1:] + scenes[:1]
    figures: dict[str, object] = {}
    details: dict[str, object] = {}
    with Direct(MODEL, directory) as direct:
        for preset in presets:
            seen, seconds = render_and_judge(
                direct, scenes, preset=preset, frames=frames, console=console
            )
            found = shares(scenes, seen)
            if preset == "reference":
                figures |= {name: found[name]["share"] for name in PROPERTIES}
            details[preset] = {
                "shares": found,
                "all_four": round(
                    sum(asdict(a) == asdict(b) for a, b in zip(scenes, seen, strict=True))
                    / prompts,
                    4,
                ),
                "by_the_prompts_of_others": shares(others, seen),
                "seconds_per_render": round(seconds, 2),
            }
    return {
        **figures,
        "prompts": prompts,
        "wanted": WANTED,
        "frames": frames,
        "presets": details,
        "machine": machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--preset", action="append", dest="presets")
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--dry", action="store_true", help="write no results")
    arguments = parser.parse_args()
    console = Console()
    figures = evaluate(
        arguments.model_dir or load_config(None).dir_of(MODEL.name),
        prompts=arguments.prompts,
        frames=arguments.frames,
        presets=arguments.presets or ["reference", "fast"],
        console=console,
    )
    table = Table("preset", *PROPERTIES)
    for preset, detail in figures["presets"].items():
        table.add_row(preset, *(_cell(detail["shares"][name]) for name in PROPERTIES))
        others = detail["by_the_prompts_of_others"]
        table.add_row("  by others' prompts", *(_cell(others[name]) for name in PROPERTIES))
    console.print(table)
    if arguments.dry:
        console.print_json(json.dumps(figures))
    else:
        console.print(f"written to {write_results('obedience', figures)}")


def _cell(found: dict[str, object]) -> str:
    low, high = found["interval"]
    return f"{found['share']:.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
