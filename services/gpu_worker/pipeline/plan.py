"""Stage 1, plan: what each segment shows. Written down, so that another attempt shows the same."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.gpu_worker.pipeline import parts
from services.gpu_worker.pipeline.parts import Parts
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.protocol import Render
from shared.complete_file import complete_or_absent
from shared.config_sections import GenerationMode

_SEEDS = 2**63


class Shot(BaseModel):
    """What one segment shows. Its ``repr`` is safe to log: no prompt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str = Field(repr=False)
    seed: int
    keyframe: str | None = Field(default=None, repr=False)  # the picture it begins with, in words


class Plan(BaseModel):
    """The video's segments in the order they are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: GenerationMode
    shots: tuple[Shot, ...]

    def describe(self, command: Render) -> str:
        """One line for the job's log: no prompt."""
        count = len(self.shots)
        steps = f"{command.steps} steps ({_guided(command)} guided), " if command.steps else ""
        return (
            f"plan: {count} segment{'s' * (count > 1)} of {command.frames} frames at "
            f"{command.fps} fps, {steps}{command.native_width}x{command.native_height}, shown at "
            f"{command.output_width}x{command.output_height}"
        )


def _guided(command: Render) -> int:
    if command.guidance_scale <= 1:
        return 0
    return command.steps if command.guided_steps is None else command.guided_steps


def make_plan(production: Production) -> Plan:
    """The plan of an earlier attempt, or a new one.

    Raises what the planner does: ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``.
    """
    found = production.found
    plan = _read(production.command, found)
    if plan is not None:
        production.watcher.log("plan: already there")
        return plan
    plan = _new_plan(production)
    with complete_or_absent(found.path(parts.PLAN)) as file:
        file.write_text(plan.model_dump_json(indent=2) + "\n", encoding="utf-8")
    found.made(parts.PLAN)
    return plan


def _new_plan(production: Production) -> Plan:
    command = production.command
    if command.segments == 1 and command.mode != "keyframe":
        return Plan(mode=command.mode, shots=(Shot(prompt=command.prompt, seed=command.seed),))
    planned = production.studio.plan(
        command.prompt,
        segments=command.segments,
        seconds_each=command.frames / command.fps,
        keyframes=command.mode == "keyframe",
        watcher=production.watcher,
    )
    return Plan(
        mode=command.mode,
        shots=tuple(
            # Another seed each: the same noise twice would show as the same clouds twice.
            Shot(
                prompt=segment.prompt,
                seed=(command.seed + number) % _SEEDS,
                keyframe=segment.keyframe_description if command.mode == "keyframe" else None,
            )
            for number, segment in enumerate(planned)
        ),
    )


def _read(command: Render, found: Parts) -> Plan | None:
    """None where there is none, or one of another video."""
    if not found.has(parts.PLAN):
        return None
    try:
        plan = Plan.model_validate_json(found.path(parts.PLAN).read_bytes())
    except ValidationError:
        return None
    if (plan.mode, len(plan.shots)) != (command.mode, command.segments):
        return None
    return plan
