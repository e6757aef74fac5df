"""One video in the making: what was ordered, who makes it, what is done of it, who is told."""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.gpu_worker.backends.backend import LoadedModel, Picture, Segment
from services.gpu_worker.pipeline.parts import Parts
from services.gpu_worker.pipeline.render_spans import RenderSpans, untold
from services.gpu_worker.pipeline.studio import Studio
from services.gpu_worker.pipeline.watcher import Watcher
from services.gpu_worker.protocol import Render
from shared.catalog import Size


@dataclass(frozen=True, kw_only=True)
class Production:
    """What every stage needs. Its ``repr`` is safe to log: no prompt."""

    command: Render = field(repr=False)
    model: LoadedModel
    studio: Studio
    found: Parts
    watcher: Watcher
    clock: Callable[[], float]
    spans: RenderSpans = field(default_factory=untold)

    @property
    def native_size(self) -> Size:
        return Size(self.command.native_width, self.command.native_height)

    @property
    def output_size(self) -> Size:
        return Size(self.command.output_width, self.command.output_height)

    def segment(
        self,
        prompt: str,
        *,
        seed: int,
        frames: int,
        first_frame: Picture | None = None,
        last_frame: Picture | None = None,
    ) -> Segment:
        """What the model is asked, with everything that the segments of a video have in common."""
        command = self.command
        return Segment(
            prompt=prompt,
            negative_prompt=command.negative_prompt,
            seed=seed,
            frames=frames,
            size=self.native_size,
            steps=command.steps,
            guidance_scale=command.guidance_scale,
            flow_shift=command.flow_shift,
            scheduler=command.scheduler,
            timesteps=command.timesteps,
            guided_steps=command.guided_steps,
            decoder=command.decoder,
            fps=command.fps,
            first_frame=first_frame,
            last_frame=last_frame,
        )
