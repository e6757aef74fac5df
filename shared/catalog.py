"""The model catalog: plain data, one entry a model. No model is loaded here.

Sizes are width × height in pixels. Frame counts follow Wan's rule: four times a whole number, plus
one. The figures of ``wan2.1`` are those of its model card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from shared.errors import InvalidRequest

TOPIC_GPU = "render-gpu"
TOPIC_REMOTE = "render-remote"

SchedulerName = Literal["unipc", "dmd"]
DecoderName = Literal["full", "tiny"]


@dataclass(frozen=True)
class Size:
    """Pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Preset:
    """How a model is run: what it costs in steps and what it gives in quality."""

    steps: int
    guidance_scale: float
    flow_shift: float


@dataclass(frozen=True)
class Model:
    """What Promptreel knows about one model before it is loaded."""

    name: str
    backend: str
    topic: str
    native_size: Size  # what the model renders
    resolutions: Mapping[str, Size]  # what the encoder scales it to, by public name
    fps: int
    min_duration_seconds: int
    max_duration_seconds: int
    presets: Mapping[str, Preset]
    max_render_seconds: int  # below the 600 s a Pub/Sub push waits
    how_to_get: str
    negative_prompt: str = ""
    default_preset: str = field(default="reference")

    def frames(self, duration_seconds: int) -> int:
        """Frames of a clip, first frame included: 5 s at 16 a second are 81."""
        return duration_seconds * self.fps + 1

    def output_size(self, resolution: str) -> Size:
        """Raises ``InvalidRequest`` for a resolution the model does not offer."""
        try:
            return self.resolutions[resolution]
        except KeyError:
            offered = ", ".join(sorted(self.resolutions))
            raise InvalidRequest(
                f"This model offers the resolutions {offered}.", field="resolution"
            ) from None

    def check_duration(self, duration_seconds: int) -> None:
        """Raises ``InvalidRequest`` for a duration the model cannot render."""
        if not self.min_duration_seconds <= duration_seconds <= self.max_duration_seconds:
            raise InvalidRequest(
                f"The duration must be {self.min_duration_seconds} to "
                f"{self.max_duration_seconds} seconds.",
                field="duration",
            )


# Wan's own negative prompt, as its authors publish it, in English.
_WAN_NEGATIVE_PROMPT = (
    "bright colors, overexposed, static, blurred details, subtitles, style, artwork, painting, "
    "picture, still, overall gray, worst quality, low quality, JPEG compression residue, ugly, "
    "incomplete, extra fingers, poorly drawn hands, poorly drawn faces, deformed, disfigured, "
    "malformed limbs, fused fingers, still picture, cluttered background, three legs, many people "
    "in the background, walking backwards"
)

_LANDSCAPE = MappingProxyType({"480p": Size(832, 480), "240p": Size(416, 240)})

CATALOG: Mapping[str, Model] = MappingProxyType(
    {
        model.name: model
        for model in (
            Model(
                name="wan2.1",
                backend="wan2.1",
                topic=TOPIC_GPU,
                native_size=Size(832, 480),
                resolutions=_LANDSCAPE,
                fps=16,
                min_duration_seconds=1,
                max_duration_seconds=5,
                presets=MappingProxyType({"reference": Preset(50, 5.0, 3.0)}),
                max_render_seconds=540,
                how_to_get=(
                    "Download Wan-AI/Wan2.1-T2V-1.3B-Diffusers from the Hugging Face hub into the "
                    "directory named by models.wan2.1.dir in the configuration."
                ),
                negative_prompt=_WAN_NEGATIVE_PROMPT,
            ),
            Model(
                name="wan2.1-demo",
                backend="wan2.1",
                topic=TOPIC_GPU,
                native_size=Size(416, 240),  # the smallest 26:15 that diffusers takes: whole 16s
                resolutions=_LANDSCAPE,
                fps=16,
                min_duration_seconds=1,
                max_duration_seconds=5,
                presets=MappingProxyType({"reference": Preset(8, 5.0, 3.0)}),
                max_render_seconds=540,
                how_to_get="Run `promptreel make-demo-model`.",
            ),
        )
    }
)


def find_model(name: str) -> Model:
    """Raises ``InvalidRequest`` for a name that is not in the catalog."""
    try:
        return CATALOG[name]
    except KeyError:
        known = ", ".join(sorted(CATALOG))
        raise InvalidRequest(f"Unknown model. The catalog has {known}.", field="model") from None
