"""Contact sheets of what the model makes: a row of frames for each prompt, rendered by the engine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.wan import Wan, load_wan
from shared.catalog import Size, find_model

_MODEL = find_model("wan2.1-shapes")
_LOOKS = 6  # frames of a clip
_SIZE = (208, 120)  # pixels each
_TITLE = 14


class Quiet:
    """A watcher that nobody asks."""

    operation: str | None = None

    def text_encoded(self) -> None: ...

    def step_done(self, step: int, steps: int) -> None: ...

    def decoded(self, fraction: float) -> None: ...

    def still_waiting(self) -> None: ...

    def note(self, text: str) -> None: ...

    def ordered(self, operation: str) -> None: ...


def load_model(directory: Path) -> Wan:
    return load_wan(directory, device="cpu", dtype="float32", how_to_get="")


def draw_sheet(
    wan: Wan,
    prompts: Sequence[str],
    file: Path,
    *,
    frames: int = 81,
    preset: str = "reference",
    guidance_scales: Sequence[float] = (),
) -> None:
    """A row for each prompt and, if several are named, for each scale of guidance."""
    chosen = _MODEL.presets[preset]
    rows = []
    for seed, prompt in enumerate(prompts):
        for scale in guidance_scales or [chosen.guidance_scale]:
            segment = Segment(
                prompt=prompt,
                negative_prompt="",
                seed=seed,
                frames=frames,
                size=Size(_MODEL.native_size.width, _MODEL.native_size.height),
                steps=chosen.steps,
                guidance_scale=scale,
                guided_steps=chosen.guided_steps if chosen.guided_steps < chosen.steps else None,
                flow_shift=chosen.flow_shift,
            )
            title = f"{prompt} (guidance {scale:g})" if guidance_scales else prompt
            rows.append(_row(title, wan.render(segment, Quiet())))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * row.height))
    sheet.save(file)


def _row(title: str, frames: np.ndarray) -> Image.Image:
    row = Image.new("RGB", (_LOOKS * _SIZE[0], _SIZE[1] + _TITLE), (250, 250, 248))
    ImageDraw.Draw(row).text((3, 1), title, fill=(30, 30, 30))
    for index, place in enumerate(np.linspace(0, len(frames) - 1, _LOOKS).round().astype(int)):
        picture = Image.fromarray(frames[place]).resize(_SIZE, Image.Resampling.LANCZOS)
        row.paste(picture, (index * _SIZE[0], _TITLE))
    return row
