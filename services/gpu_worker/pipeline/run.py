"""The stages in their order: plan, keyframes, generation, stitch; in two halves.

The first half needs the device to itself and ends with the last denoising step. The second one may run
in another thread, beside the first half of the next clip.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.pipeline.keyframes import make_keyframes
from services.gpu_worker.pipeline.plan import Plan, make_plan
from services.gpu_worker.pipeline.segments import DenoisedSegment, denoise_segments
from services.gpu_worker.pipeline.stitch import stitch
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from services.gpu_worker.protocol import Render, Rendered


def denoise(
    command: Render,
    model: LoadedModel,
    watcher: Watcher,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> "DenoisedClip":
    """The first half. Writes nothing yet.

    Raises ``RenderCanceled`` soon after the watcher asks for it, and errors of ``shared.errors``.
    """
    phases = _Phases(watcher, clock)
    with phases.whole("plan"):
        plan = make_plan(command)
        watcher.log(plan.describe())
    with phases.whole("keyframes"):
        make_keyframes(watcher)
    phases.begin("generation")
    with phases.timed("generation"):
        segments = denoise_segments(plan, model, watcher, clock=clock)
    return DenoisedClip(command, plan, segments, watcher, phases)


@dataclass(frozen=True)
class DenoisedClip:
    """A clip in latents. Its ``repr`` is safe to log: no prompt."""

    _command: Render = field(repr=False)
    _plan: Plan
    _segments: tuple[DenoisedSegment, ...]
    _watcher: Watcher
    _phases: "_Phases"

    def finish(self) -> Rendered:
        """The second half: decode, and write the files into the command's work directory.

        To be called once. Raises what the first half does.
        """
        command, plan, phases = self._command, self._plan, self._phases
        stop_if_canceled(self._watcher)
        with phases.timed("generation"):
            frames = tuple(segment.decode() for segment in self._segments)
        phases.end("generation")
        with phases.whole("stitch"):
            files = stitch(frames, plan, command.work_dir, self._watcher)
        return Rendered(
            job_id=command.job_id,
            files=files,
            frames=plan.frames,
            fps=plan.fps,
            phase_seconds=phases.seconds,
        )


@dataclass
class _Phases:
    """Seconds of work: generation's are those of both halves, without the wait between them."""

    watcher: Watcher
    clock: Callable[[], float]
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
        yield
        before = self.seconds.get(phase, 0.0)
        self.seconds[phase] = round(before + self.clock() - started, 3)

    def end(self, phase: str) -> None:
        self.watcher.progress(phase, 1.0)
        self.watcher.log(f"{phase}: done in {self.seconds[phase]:.2f} s")
