"""Stage 3, generation: every segment of the plan, through the model."""

from collections.abc import Callable
from dataclasses import dataclass

from services.gpu_worker.backends.backend import Frames, Latents, LoadedModel
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled


def denoise_segments(
    plan: Plan, model: LoadedModel, watcher: Watcher, *, clock: Callable[[], float]
) -> tuple["DenoisedSegment", ...]:
    """The latents of each segment. Raises ``RenderCanceled`` between two steps."""
    segments = []
    for segment in plan.segments:
        reporter = _SegmentReporter(watcher, clock)
        segments.append(DenoisedSegment(model.denoise(segment, reporter), reporter))
    return tuple(segments)


@dataclass(frozen=True)
class DenoisedSegment:
    """One piece of a clip in latents, far smaller than its frames."""

    _latents: Latents
    _reporter: "_SegmentReporter"

    def decode(self) -> Frames:
        """The segment's frames. Raises ``RenderCanceled`` between two pieces."""
        self._reporter.decoding()
        return self._latents.decode(self._reporter)


class _SegmentReporter:
    """Turns what a model tells about a segment into progress of the phase.

    Decoding counts as one more step: that is true enough for a bar, and the bar never waits at 1.
    """

    def __init__(self, watcher: Watcher, clock: Callable[[], float]) -> None:
        self._watcher = watcher
        self._clock = clock
        self._since = clock()
        self._steps = 0

    def text_encoded(self) -> None:
        stop_if_canceled(self._watcher)

    def step_done(self, step: int, steps: int) -> None:
        stop_if_canceled(self._watcher)
        self._steps = steps
        self._watcher.progress("generation", step / (steps + 1), step=step, steps=steps)
        self._watcher.log(f"step {step}/{steps} ({self._lap_seconds():.2f} s)")

    def decoding(self) -> None:
        """Decoding begins: what it has waited for that is not in its time."""
        self._lap_seconds()

    def decoded(self, fraction: float) -> None:
        stop_if_canceled(self._watcher)
        steps = self._steps
        self._watcher.progress(
            "generation", (steps + fraction) / (steps + 1), step=steps, steps=steps
        )
        if fraction >= 1:
            self._watcher.log(f"frames decoded ({self._lap_seconds():.2f} s)")

    def _lap_seconds(self) -> float:
        now = self._clock()
        lap, self._since = now - self._since, now
        return lap
