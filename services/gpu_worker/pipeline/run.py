"""The stages in their order: plan, keyframes, generation, stitch."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.pipeline.keyframes import make_keyframes
from services.gpu_worker.pipeline.plan import make_plan
from services.gpu_worker.pipeline.segments import render_segments
from services.gpu_worker.pipeline.stitch import stitch
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import Render, Rendered


def run(
    command: Render,
    model: LoadedModel,
    watcher: Watcher,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Rendered:
    """Render one clip into the command's work directory.

    Raises ``RenderCanceled`` soon after the watcher asks for it, and errors of ``shared.errors``.
    """
    phases = _Phases(watcher, clock)
    with phases.timed("plan"):
        plan = make_plan(command)
        watcher.log(plan.describe())
    with phases.timed("keyframes"):
        make_keyframes(watcher)
    with phases.timed("generation"):
        segments = render_segments(plan, model, watcher, clock=clock)
    with phases.timed("stitch"):
        files = stitch(segments, plan, command.work_dir, watcher)
    return Rendered(
        job_id=command.job_id,
        files=files,
        frames=plan.frames,
        fps=plan.fps,
        phase_seconds=phases.seconds,
    )


@dataclass
class _Phases:
    watcher: Watcher
    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        stop_if_canceled(self.watcher)
        self.watcher.progress(phase, 0.0)
        started = self.clock()
        yield
        self.seconds[phase] = round(self.clock() - started, 3)
        self.watcher.progress(phase, 1.0)
        self.watcher.log(f"{phase}: done in {self.seconds[phase]:.2f} s")
