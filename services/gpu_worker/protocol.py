"""What the supervisor and the render process say to each other: one JSON object a line.

The supervisor writes commands to the child's stdin; the child writes events to its stdout. A closed
stdin means the supervisor is gone: the child exits at once, whatever it is doing.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from shared.catalog import DecoderName, SchedulerName


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


class Render(_Line):
    """Render one clip; ended by ``Rendered``, ``RenderFailed`` or ``RenderCanceled``, once.

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
    work_dir: Path  # exists and is empty; everything the render makes goes here


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


class Denoised(_Line):
    """The device is free of this job now: the next one would be begun at once.

    What is left of the render, decoding and stitching, goes on beside it.
    """

    type: Literal["denoised"] = "denoised"
    job_id: str


class RenderedFile(_Line):
    kind: Literal["video", "poster", "spritesheet"]
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
RenderNews = Progress | LogLine | Denoised
RenderEnd = Rendered | RenderFailed | RenderCanceled
RenderEvent = RenderNews | RenderEnd
Event = Annotated[Ready | LoadFailed | RenderEvent, Field(discriminator="type")]


def parse_command(line: bytes) -> Command:
    """Raises ``pydantic.ValidationError`` for a line that is no command."""
    return TypeAdapter[Command](Command).validate_json(line)


def parse_event(line: bytes) -> Event:
    """Raises ``pydantic.ValidationError`` for a line that is no event."""
    return TypeAdapter[Event](Event).validate_json(line)
