"""The model catalog: plain data, one entry a model. No model is loaded here.

Sizes are width × height in pixels. Frame counts follow Wan's rule: four times a whole number, plus
one. The figures of ``wan2.1`` are those of its model card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from shared.errors import InvalidRequest

TOPIC_GPU = "render-gpu"
TOPIC_REMOTE = "render-remote"

PACKAGED = "services/gpu_worker/engine"  # beside ``shared``: small weights are its data

_FRAME_STRIDE = 4  # of Wan: frames that one latent frame becomes

SchedulerName = Literal["unipc", "dmd"]
DecoderName = Literal["full", "tiny"]


@dataclass(frozen=True)
class Size:
    """Pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How a model is run: what it costs in steps and what it gives in quality."""

    description: str
    steps: int
    guidance_scale: float
    guided_steps: int  # the first so many; each asks the transformer twice
    flow_shift: float
    scheduler: SchedulerName = "unipc"
    timesteps: tuple[int, ...] = ()  # of "dmd": those the model was distilled for
    decoder: DecoderName = "full"  # "tiny" needs the file at models.<name>.tiny_decoder
    checkpoint: str | None  # on the Hugging Face hub; None: made on this machine
    vram_gb: int  # counted, not measured: see _FULL_VRAM_GB

    @property
    def forwards(self) -> int:
        """How often the transformer runs: what a render costs, nearly all of it."""
        return self.steps + self.guided_steps


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
    max_render_seconds: int  # of one clip; below the 600 s a Pub/Sub push waits
    opening_frames: int = 1  # those before the first whole frame interval: Wan's clips have one
    negative_prompt: str = ""
    default_preset: str = field(default="reference")
    holds_first_frame: bool = False  # it goes on from a given picture without another model
    packaged: str | None = None  # the folder of ``PACKAGED`` that its training leaves it in

    def how_to_get(self, preset: str) -> str:
        """What to do when the files that a preset needs are not there."""
        if self.topic == TOPIC_REMOTE:
            return "Fill in the section vertex of the configuration."
        checkpoint = self.presets[preset].checkpoint
        if self.packaged is not None:
            return (
                "It comes with Promptreel: install that anew, run `python -m training` where its "
                f"sources are, or name a copy as models.{self.name}.dir in the configuration."
            )
        if checkpoint is None:
            return "Run `promptreel make-demo-model`."
        return (
            f"Download {checkpoint} from the Hugging Face hub into the directory named by "
            f"models.{self.name}.dir in the configuration."
        )

    def frames(self, duration_seconds: int) -> int:
        """Frames of a clip: of Wan, first frame included, 5 s at 16 a second are 81."""
        return duration_seconds * self.fps + self.opening_frames

    @property
    def frame_counts(self) -> range:
        """What one clip may be asked for in frames; none where the model has them chosen."""
        most = 0 if self.topic == TOPIC_REMOTE else self.frames(self.max_duration_seconds)
        return range(1, most + 1, _FRAME_STRIDE)

    def output_size(self, resolution: str) -> Size:
        """Raises ``InvalidRequest`` for a resolution the model does not offer."""
        try:
            return self.resolutions[resolution]
        except KeyError:
            offered = ", ".join(sorted(self.resolutions))
            raise InvalidRequest(
                f"This model offers the resolutions {offered}.", field="resolution"
            ) from None

    def resolution_of(self, size: str) -> str:
        """The public name of an output size, "832x480". Raises ``InvalidRequest`` for any other."""
        for name, offered in self.resolutions.items():
            if str(offered) == size:
                return name
        sizes = ", ".join(str(each) for each in self.resolutions.values())
        raise InvalidRequest(f"This model offers the sizes {sizes}.", field="size")

    def check_settings(
        self, preset: str, *, steps: int | None, guidance_scale: float | None, frames: int | None
    ) -> None:
        """What is to be instead of the preset's. Raises ``InvalidRequest`` where it cannot be."""
        given = {"steps": steps, "guidance_scale": guidance_scale, "frames": frames}
        for name, value in given.items():
            if self.topic == TOPIC_REMOTE and value is not None:
                raise InvalidRequest(f"The model {self.name} has no {name} to choose.", field=name)
        made_for = self.presets[preset]
        if made_for.scheduler == "dmd":
            if steps not in (None, made_for.steps):
                reason = f"The preset {preset} was made for {made_for.steps} steps."
                raise InvalidRequest(reason, field="steps")
            if guidance_scale not in (None, 1):
                reason = f"The preset {preset} has no guidance."
                raise InvalidRequest(reason, field="guidance_scale")
        self._check_frames(frames)

    def _check_frames(self, frames: int | None) -> None:
        if frames is not None and frames not in self.frame_counts:
            most = self.frame_counts[-1]
            reason = f"Give a multiple of {_FRAME_STRIDE}, plus one, of {most} at most."
            raise InvalidRequest(reason, field="frames")

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

_BASE = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
_DISTILLED = "FastVideo/FastWan2.1-T2V-1.3B-Diffusers"

# Counted for 81 frames of 832x480 in bfloat16: text encoder 11.4 GB, transformer 2.8, decoder in
# float32 0.3; about 2 for the largest activations of a step, 3 for those of a decode beside it, 0.5
# for CUDA itself. The tiny decoder needs about 1 instead of 3.
_FULL_VRAM_GB = 20
_TINY_VRAM_GB = 18

# The few steps of FastWan: the timesteps and the shift it was distilled with, and no guidance. Its sparse
# attention is left out: it runs with full attention.
_DISTILLED_TIMESTEPS = (1000, 757, 522)
_DISTILLED_SHIFT = 8.0

_FAST = Preset(
    description="a distilled model: three steps without guidance",
    scheduler="dmd",
    steps=len(_DISTILLED_TIMESTEPS),
    timesteps=_DISTILLED_TIMESTEPS,
    guidance_scale=1.0,
    guided_steps=0,
    flow_shift=_DISTILLED_SHIFT,
    checkpoint=_DISTILLED,
    vram_gb=_FULL_VRAM_GB,
)

# Guidance shapes the first half of the steps; in the second it costs as much and changes little
# (Castillo et al. 2023, arXiv 2312.12487).
_WAN_PRESETS = MappingProxyType(
    {
        "reference": Preset(
            description="as Wan's authors render",
            steps=50,
            guidance_scale=5.0,
            guided_steps=50,
            flow_shift=3.0,
            checkpoint=_BASE,
            vram_gb=_FULL_VRAM_GB,
        ),
        "balanced": Preset(
            description="fewer steps, guidance in the first half of them",
            steps=30,
            guidance_scale=5.0,
            guided_steps=15,
            flow_shift=3.0,
            checkpoint=_BASE,
            vram_gb=_FULL_VRAM_GB,
        ),
        "fast": _FAST,
        "preview": replace(
            _FAST,
            description="as fast, shown by a tiny decoder: a little less sharp",
            decoder="tiny",
            vram_gb=_TINY_VRAM_GB,
        ),
    }
)

_DEMO_VRAM_GB = 1

# As the real ones, at the demo's size; it has no tiny decoder.
_DEMO_PRESETS = MappingProxyType(
    {
        "reference": replace(
            _WAN_PRESETS["reference"],
            description="every step guided, as the real reference, but fewer of them",
            steps=8,
            guided_steps=8,
            checkpoint=None,
            vram_gb=_DEMO_VRAM_GB,
        ),
        "balanced": replace(
            _WAN_PRESETS["balanced"],
            steps=6,
            guided_steps=3,
            checkpoint=None,
            vram_gb=_DEMO_VRAM_GB,
        ),
        "fast": replace(_FAST, checkpoint=None, vram_gb=_DEMO_VRAM_GB),
    }
)

# With the shift it is trained with; guidance is what makes it obey.
_SHAPES_REFERENCE = Preset(
    description="every step guided, as the real reference, but fewer of them",
    steps=20,
    guidance_scale=2.0,
    guided_steps=20,
    flow_shift=3.0,
    checkpoint=None,
    vram_gb=_DEMO_VRAM_GB,
)
_SHAPES_TIMESTEPS = (1000, 900, 750, 500)
_SHAPES_PRESETS = MappingProxyType(
    {
        "reference": _SHAPES_REFERENCE,
        "balanced": replace(
            _SHAPES_REFERENCE,
            description="fewer steps, guidance in the first half of them",
            steps=12,
            guided_steps=6,
        ),
        "fast": replace(
            _SHAPES_REFERENCE,
            description="distilled weights: four steps without guidance",
            scheduler="dmd",
            steps=len(_SHAPES_TIMESTEPS),
            timesteps=_SHAPES_TIMESTEPS,
            guidance_scale=1.0,
            guided_steps=0,
        ),
    }
)

_WIDESCREEN = MappingProxyType(
    {"720p": Size(1280, 720), "480p": Size(854, 480), "240p": Size(426, 240)}
)
_LANDSCAPE = MappingProxyType({"480p": Size(832, 480), "240p": Size(416, 240)})

# Veo has no steps to choose, and runs on Google's machines.
_VEO_PRESETS = MappingProxyType(
    {
        "reference": Preset(
            description="as Vertex AI renders",
            steps=0,
            guidance_scale=1.0,
            guided_steps=0,
            flow_shift=1.0,
            checkpoint=None,
            vram_gb=0,
        )
    }
)

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
                presets=_WAN_PRESETS,
                max_render_seconds=540,
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
                presets=_DEMO_PRESETS,
                max_render_seconds=540,
            ),
            Model(
                name="wan2.1-shapes",
                backend="wan2.1",
                topic=TOPIC_GPU,
                native_size=Size(224, 128),
                resolutions=_LANDSCAPE,
                fps=16,
                min_duration_seconds=1,
                max_duration_seconds=5,
                presets=_SHAPES_PRESETS,
                max_render_seconds=540,
                holds_first_frame=True,
                packaged="shapes",
            ),
            Model(
                name="veo3",
                backend="veo3",
                topic=TOPIC_REMOTE,
                native_size=Size(1280, 720),
                resolutions=_WIDESCREEN,
                fps=24,
                opening_frames=0,
                min_duration_seconds=1,
                max_duration_seconds=8,  # made as 4, 6 or 8 s, and cut
                presets=_VEO_PRESETS,
                max_render_seconds=540,
            ),
        )
    }
)


def models_of(topic: str) -> frozenset[str]:
    """The names of those whose jobs wait at this topic."""
    return frozenset(name for name, model in CATALOG.items() if model.topic == topic)


def find_model(name: str) -> Model:
    """Raises ``InvalidRequest`` for a name that is not in the catalog."""
    try:
        return CATALOG[name]
    except KeyError:
        known = ", ".join(sorted(CATALOG))
        raise InvalidRequest(f"Unknown model. The catalog has {known}.", field="model") from None
