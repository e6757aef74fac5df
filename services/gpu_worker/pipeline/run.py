"""The stages in their order: plan, keyframes, generation, stitch; in two halves.

The first half needs the device to itself and ends with the last denoising step. The second one may run
in another thread, beside the first half of the next video.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.pipeline.keyframes import make_keyframes
from services.gpu_worker.pipeline.parts import Parts
from services.gpu_worker.pipeline.plan import make_plan
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.pipeline.render_spans import RenderSpans, untold
from services.gpu_worker.pipeline.segments import Generation
from services.gpu_worker.pipeline.stitch import stitch
from services.gpu_worker.pipeline.studio import Studio
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import Render, Rendered


def begin(
    command: Render,
    model: LoadedModel,
    studio: Studio,
    watcher: Watcher,
    *,
    clock: Callable[[], float] = time.monotonic,
    spans: RenderSpans | None = None,
) -> "BegunRender":
    """The first half. What is in the command's work directory already is not made again.

    Raises ``RenderCanceled`` soon after the watcher asks for it, and errors of ``shared.errors``.
    """
    told = untold() if spans is None else spans
    phases = _Phases(watcher, clock, told)
    production = Production(
        command=command,
        model=model,
        studio=studio,
        found=Parts(command.work_dir, watcher, worth_keeping=command.segments > 1),
        watcher=watcher,
        clock=clock,
        spans=told,
    )
    with phases.whole("plan"):
        plan = make_plan(production)
        watcher.log(plan.describe(command))
    with phases.whole("keyframes"):
        make_keyframes(plan, production)
    generation = Generation(plan, production)
    phases.begin("generation")
    with phases.timed("generation"):
        generation.begin()
    return BegunRender(production, generation, phases)


@dataclass(frozen=True)
class BegunRender:
    """A video whose last segment is in latents. Its ``repr`` is safe to log: no prompt."""

    _production: Production
    _generation: Generation
    _phases: "_Phases"

    def finish(self) -> Rendered:
        """The second half: decode, and write the files into the command's work directory.

        To be called once. Raises what the first half does.
        """
        command, phases = self._production.command, self._phases
        stop_if_canceled(self._production.watcher)
        with phases.timed("generation"):
            pieces = self._generation.finish()
        phases.end("generation")
        with phases.whole("stitch"):
            frames, files = stitch(pieces, self._production)
        return Rendered(
            job_id=command.job_id,
            files=files,
            frames=frames,
            fps=command.fps,
            phase_seconds=phases.seconds,
        )


@dataclass
class _Phases:
    """Seconds of work: generation's are those of both halves, without the wait between them."""

    watcher: Watcher
    clock: Callable[[], float]
    spans: RenderSpans
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def whole(self, phase: str) -> Iterator[None]:
        self.begin(phase)
        with self.timed(phase):
            yield
        self.end(phase)

    def begin(self, phase: str) -> None:
        stop_if_canceled(self.watcher)
        self.watcher.progress(phase, 0.0)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        started = self.clock()
        with self.spans.phase(phase):
            yield
        before = self.seconds.get(phase, 0.0)
        self.seconds[phase] = round(before + self.clock() - started, 3)

    def end(self, phase: str) -> None:
        self.watcher.progress(phase, 1.0)
        self.watcher.log(f"{phase}: done in {self.seconds[phase]:.2f} s")
