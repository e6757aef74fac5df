"""What a model that renders here must offer the pipeline."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.gpu_worker.protocol import Load
from shared.catalog import DecoderName, Model, SchedulerName, Size

# (frames, height, width, 3), RGB, 0 to 255.
Frames = npt.NDArray[np.uint8]
# (height, width, 3), RGB, 0 to 255.
Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Segment:
    """One piece of a clip, rendered in one go. Its ``repr`` is safe to log: no prompt."""

    prompt: str = field(repr=False)
    negative_prompt: str = field(repr=False)
    seed: int
    frames: int
    size: Size
    steps: int
    guidance_scale: float
    flow_shift: float
    scheduler: SchedulerName = "unipc"
    timesteps: tuple[int, ...] = ()  # of a "dmd" scheduler
    guided_steps: int | None = None  # the first so many steps are guided; None: all
    decoder: DecoderName = "full"
    fps: int = 16
    # What it begins and ends with, in its own size; None: the model is free to choose.
    first_frame: Picture | None = field(default=None, repr=False)
    last_frame: Picture | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    @property
    def steps_with_guidance(self) -> int:
        """At how many of the first steps the negative prompt is asked. A scale of 1 guides none."""
        if self.guidance_scale <= 1:
            return 0
        return self.steps if self.guided_steps is None else min(self.guided_steps, self.steps)


class SegmentWatcher(Protocol):
    """Told how a segment comes along. What it raises stops the render and reaches the caller."""

    def text_encoded(self) -> None:
        """A text is read by the model, the prompt or the negative one; no step is done yet."""

    def step_done(self, step: int, steps: int) -> None:
        """Denoising step ``step`` of ``steps``, counted from 1, is done."""

    def decoded(self, fraction: float) -> None:
        """This part of the frames is decoded, 0 to 1."""

    def still_waiting(self) -> None:
        """Called a few times a second by who waits for a segment that is made elsewhere."""

    def note(self, text: str) -> None:
        """A line for the job's owner: no prompt, no path."""

    @property
    def operation(self) -> str | None:
        """What ``ordered`` was told last of this segment, perhaps by a process that has died since."""

    def ordered(self, operation: str) -> None:
        """The segment is being made elsewhere: by this name any process can ask for it."""


@dataclass(frozen=True)
class Abilities:
    """What a model can be asked beyond a clip from a text."""

    first_frame: bool = False  # a segment may be told what it begins with
    last_frame: bool = False  # and with it, what it ends with
    needs_last_frame: bool = False  # who is told the one must be told the other
    stills: bool = False  # a segment may have a single frame
    segments_at_once: int = 1  # that do not depend on each other, from as many threads
    needs_device: bool = True  # one video at a time; else it is made elsewhere, and many may be


class Latents(Protocol):
    """A segment denoised and not yet decoded."""

    def decode(self, watcher: SegmentWatcher) -> Frames:
        """The segment's frames. To be called once."""


@dataclass(frozen=True)
class Clip:
    """A segment that was made elsewhere, as a video file: an MP4, perhaps with sound.

    Its size and frame rate are its maker's, and it may be longer than the segment.
    """

    content: bytes = field(repr=False)


class LoadedModel(Protocol):
    """A model in memory: renders segment after segment, the same segment to the same bytes.

    While one segment is denoised in a thread, another one may be decoded in a second thread.
    """

    @property
    def device(self) -> str:
        """Where it runs: "cpu", or the GPU's name."""

    @property
    def abilities(self) -> Abilities: ...

    def generate(self, segment: Segment, watcher: SegmentWatcher) -> Latents | Clip:
        """All but the decoding, where there is any. What the watcher raises comes through."""


class Backend(Protocol):
    """Loads models of one kind."""

    def load(self, model: Model, order: Load, *, warn: Callable[[str], None]) -> LoadedModel:
        """Ready to render; what the operator should know though it works goes to ``warn``.

        Raises ``ModelUnavailable`` when the model cannot be used, or not by the preset.
        """
