"""What the supervisor and the render process say to each other: one JSON object a line.

The supervisor writes commands to the child's stdin; the child writes events to its stdout. A closed
stdin means the supervisor is gone: the child exits at once, whatever it is doing.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.catalog import DecoderName, SchedulerName
from shared.config_sections import GenerationMode, Telemetry, Vertex

FileKind = Literal["video", "poster", "spritesheet", "seams"]

# "plan.json", "keyframes/1.png": no way out of the work directory.
PART_NAME = r"^([a-z]+/)?[a-z0-9_]+\.(json|png|mp4|txt)$"


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        return self.model_dump_json().encode() + b"\n"


# --- commands: supervisor → render process


class Load(_Line):
    """Load a model and answer ``Ready`` or ``LoadFailed``. Sent once, first."""

    type: Literal["load"] = "load"
    model: str  # a name in the catalog
    model_dir: Path
    snapshot_dir: Path | None = None  # made of it by `promptreel bake`
    device: str  # "auto", "cpu", "cuda", "cuda:0"
    dtype: str  # "auto", "float32", "bfloat16", "float16"
    preset: str | None = None  # of the model: the files must be those it needs; None: not checked
    tiny_decoder: Path | None = None  # its weights, for presets that decode with it
    image_to_video_dir: Path | None = None  # a model that begins a clip with a given picture
    image_to_video_when_asked: bool = False  # loaded by the first clip that does
    vertex: Vertex | None = None  # where Vertex AI is asked, and how
    planner: str | None = None  # a Gemini model; None: prompts are divided by rule
    painter: str | None = None  # a Gemini model; None: the video model draws keyframes
    image_size: str = "1344x768"  # of the painter's keyframes
    reference_images: tuple[Path, ...] = ()  # that it draws them after
    telemetry: Telemetry = Telemetry()
    trace_project: str | None = None  # whose Cloud Trace it is


class Render(_Line):
    """Render one video; ended by ``Rendered``, ``RenderFailed`` or ``RenderCanceled``, once.

    One that comes before the last one is ``Denoised`` waits for that.
    """

    type: Literal["render"] = "render"
    job_id: str
    prompt: str
    negative_prompt: str
    seed: int
    frames: int
    fps: int
    native_width: int
    native_height: int
    output_width: int
    output_height: int
    steps: int
    guidance_scale: float
    flow_shift: float
    scheduler: SchedulerName = "unipc"
    timesteps: tuple[int, ...] = ()  # of a "dmd" scheduler
    guided_steps: int | None = None  # the first so many steps are guided; None: all
    decoder: DecoderName = "full"
    mode: GenerationMode = "single"
    segments: int = 1  # each of so many frames
    crossfade_frames: int = 0
    # Exists; everything the render makes goes here. Holds the parts of an earlier attempt, if it has made any.
    work_dir: Path
    first_frame: Path | None = None  # a picture in there that it begins with
    traceparent: str | None = None  # what its stages are told below of, W3C Trace Context


class Cancel(_Line):
    """Stop the render of this job at its next step, piece or frame. Ignored when it is over."""

    type: Literal["cancel"] = "cancel"
    job_id: str


Command = Annotated[Load | Render | Cancel, Field(discriminator="type")]


# --- events: render process → supervisor


class Ready(_Line):
    """The model is loaded: a render could start now."""

    type: Literal["ready"] = "ready"
    device: str  # "cpu", or the GPU's name, "NVIDIA L4"
    load_seconds: float
    warnings: tuple[str, ...] = ()  # what the operator should know though it works


class LoadFailed(_Line):
    type: Literal["load_failed"] = "load_failed"
    message: str


class Progress(_Line):
    """True progress: ``fraction`` of the phase, 0 to 1; steps count denoising steps."""

    type: Literal["progress"] = "progress"
    job_id: str
    phase: str = Field(pattern=r"^(plan|keyframes|generation|stitch)$")
    fraction: float = Field(ge=0, le=1)
    step: int | None = None
    steps: int | None = None


class LogLine(_Line):
    """A line for the job's log, to be read by the job's owner."""

    type: Literal["log_line"] = "log_line"
    job_id: str
    text: str


class PartMade(_Line):
    """A part of the video is done, in the work directory: whoever finds it there need not make it again."""

    type: Literal["part_made"] = "part_made"
    job_id: str
    name: str = Field(pattern=PART_NAME)  # relative to the work directory


class Denoised(_Line):
    """The device is free of this job now: the next one would be begun at once.

    What is left of the render, decoding and stitching, goes on beside it.
    """

    type: Literal["denoised"] = "denoised"
    job_id: str


class RenderedFile(_Line):
    kind: FileKind
    path: Path
    content_type: str
    width: int  # pixels
    height: int


class Rendered(_Line):
    """The files of a finished render, and what it took, in seconds a phase."""

    type: Literal["rendered"] = "rendered"
    job_id: str
    files: tuple[RenderedFile, ...]
    frames: int
    fps: int
    phase_seconds: dict[str, float]


class RenderFailed(_Line):
    """The render ended without a result; the process is usable for the next one."""

    type: Literal["render_failed"] = "render_failed"
    job_id: str
    code: str  # an error code of shared.errors
    message: str
    retry: bool


class RenderCanceled(_Line):
    type: Literal["render_canceled"] = "render_canceled"
    job_id: str


# What is said about one render, until how it ended.
RenderNews = Progress | LogLine | PartMade | Denoised
RenderEnd = Rendered | RenderFailed | RenderCanceled
RenderEvent = RenderNews | RenderEnd
Event = Annotated[Ready | LoadFailed | RenderEvent, Field(discriminator="type")]


def parse_command(line: bytes) -> Command:
    """Raises ``pydantic.ValidationError`` for a line that is no command."""
    return TypeAdapter[Command](Command).validate_json(line)


def parse_event(line: bytes) -> Event:
    """Raises ``pydantic.ValidationError`` for a line that is no event."""
    return TypeAdapter[Event](Event).validate_json(line)
