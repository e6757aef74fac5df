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


class Latents(Protocol):
    """A segment denoised and not yet decoded."""

    def decode(self, watcher: SegmentWatcher) -> Frames:
        """The segment's frames. To be called once."""


class LoadedModel(Protocol):
    """A model in memory: renders segment after segment, the same segment to the same bytes.

    While one segment is denoised in a thread, another one may be decoded in a second thread.
    """

    @property
    def device(self) -> str:
        """Where it runs: "cpu", or the GPU's name."""

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Latents: ...


class Backend(Protocol):
    """Loads models of one kind."""

    def load(self, model: Model, order: Load, *, warn: Callable[[str], None]) -> LoadedModel:
        """Ready to render; what the operator should know though it works goes to ``warn``.

        Raises ``ModelUnavailable`` when the model cannot be used, or not by the preset.
        """
