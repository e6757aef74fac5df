"""Stage 1, plan: what to render, in how many pieces."""

from dataclasses import dataclass

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.protocol import Render
from shared.catalog import Size


@dataclass(frozen=True)
class Plan:
    """The clip's segments in the order they are shown."""

    segments: tuple[Segment, ...]
    fps: int
    output_size: Size

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    def describe(self) -> str:
        """One line for the job's log: no prompt."""
        first = self.segments[0]
        return (
            f"plan: {len(self.segments)} segment, {self.frames} frames at {self.fps} fps, "
            f"{first.steps} steps ({first.steps_with_guidance} guided) at "
            f"{first.size}, shown at {self.output_size}"
        )


def make_plan(command: Render) -> Plan:
    """One segment holds the whole clip."""
    segment = Segment(
        prompt=command.prompt,
        negative_prompt=command.negative_prompt,
        seed=command.seed,
        frames=command.frames,
        size=Size(command.native_width, command.native_height),
        steps=command.steps,
        guidance_scale=command.guidance_scale,
        flow_shift=command.flow_shift,
        scheduler=command.scheduler,
        timesteps=command.timesteps,
        guided_steps=command.guided_steps,
        decoder=command.decoder,
    )
    return Plan(
        segments=(segment,),
        fps=command.fps,
        output_size=Size(command.output_width, command.output_height),
    )
