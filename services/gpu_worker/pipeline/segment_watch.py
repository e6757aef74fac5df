"""What a model tells of a segment becomes progress of the phase and lines of the job's log."""

import threading

from services.gpu_worker.pipeline import parts
from services.gpu_worker.pipeline.production import Production
from services.gpu_worker.pipeline.watcher import Watcher, stop_if_canceled
from shared.complete_file import complete_or_absent

# Decoding and encoding count as a step each: true enough for a bar, and it never waits at 1.
_STEPS_AFTER_DENOISING = 2


class Abandoned(Exception):
    """Control flow: another segment of the same video has failed. Raised where a cancel would be."""


class GenerationBar:
    """The phase's progress: all segments count alike. They may be made side by side."""

    def __init__(self, watcher: Watcher, *, segments: int) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._fractions = [0.0] * segments
        self._abandoned = threading.Event()

    def show(
        self, number: int, fraction: float, *, step: int | None = None, steps: int | None = None
    ) -> None:
        with self._lock:
            self._fractions[number - 1] = fraction
            whole = sum(self._fractions) / len(self._fractions)
            self._watcher.progress("generation", whole, step=step, steps=steps)

    def abandon(self) -> None:
        """The video will not be: who still makes a segment of it hears it at the next look."""
        self._abandoned.set()

    def look(self) -> None:
        """Raises ``RenderCanceled`` and ``Abandoned``."""
        stop_if_canceled(self._watcher)
        if self._abandoned.is_set():
            raise Abandoned


class SegmentWatch:
    """A ``SegmentWatcher``, and what follows when the model is done."""

    def __init__(self, number: int, of: int, bar: GenerationBar, production: Production) -> None:
        self._number = number
        self._label = f"segment {number}/{of}: " if of > 1 else ""
        self._bar = bar
        self._found = production.found
        self._watcher = production.watcher
        self._clock = production.clock
        self._since = production.clock()
        self._laps = production.spans.laps({"promptreel.segment": number})
        self._steps = 0

    def text_encoded(self) -> None:
        self._laps.tell("text encoding")
        self._bar.look()

    def step_done(self, step: int, steps: int) -> None:
        self._bar.look()
        self._steps = steps
        self._show(step)
        self.note(f"step {step}/{steps} ({self._lap_seconds():.2f} s)")
        if step == steps:
            self._laps.tell("denoising", {"promptreel.steps": steps})

    def resumed(self) -> None:
        """Another half begins: what it has waited for that is not in its time."""
        self._lap_seconds()
        self._laps.restart()

    def decoded(self, fraction: float) -> None:
        self._bar.look()
        self._show(self._steps + fraction)
        if fraction >= 1:
            self.note(f"frames decoded ({self._lap_seconds():.2f} s)")
            self._laps.tell("decoding")

    def encoded(self, frame: int, frames: int) -> None:
        """A frame is in the segment's file."""
        self._bar.look()
        self._show(self._steps + 1 + frame / frames)
        if frame == frames:
            self.note(f"{frames} frames encoded ({self._lap_seconds():.2f} s)")
            self._laps.tell("encoding")

    def done(self) -> None:
        self._bar.show(self._number, 1.0)

    def still_waiting(self) -> None:
        self._bar.look()

    def note(self, text: str) -> None:
        self._watcher.log(self._label + text)

    @property
    def operation(self) -> str | None:
        orders = self._orders()
        if not orders:
            return None
        newest = self._found.path(parts.operation(self._number, orders))
        return newest.read_text(encoding="utf-8").strip()

    def ordered(self, operation: str) -> None:
        name = parts.operation(self._number, self._orders() + 1)
        with complete_or_absent(self._found.path(name)) as file:
            file.write_text(operation + "\n", encoding="utf-8")
        # Of a single clip too: it is paid for.
        self._found.made(name, always=True)

    def _orders(self) -> int:
        count = 0
        while self._found.has(parts.operation(self._number, count + 1)):
            count += 1
        return count

    def _show(self, done: float) -> None:
        whole = self._steps + _STEPS_AFTER_DENOISING
        step = min(int(done), self._steps)
        self._bar.show(self._number, done / whole, step=step, steps=self._steps)

    def _lap_seconds(self) -> float:
        now = self._clock()
        lap, self._since = now - self._since, now
        return lap


class StillWatch:
    """A ``SegmentWatcher`` of a single picture: it only hears a cancel."""

    operation: str | None = None

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def text_encoded(self) -> None:
        stop_if_canceled(self._watcher)

    def step_done(self, step: int, steps: int) -> None:  # noqa: ARG002 - the protocol's
        stop_if_canceled(self._watcher)

    def decoded(self, fraction: float) -> None:  # noqa: ARG002 - the protocol's
        stop_if_canceled(self._watcher)

    def still_waiting(self) -> None:
        stop_if_canceled(self._watcher)

    def note(self, text: str) -> None:
        self._watcher.log(text)

    def ordered(self, operation: str) -> None:
        self.operation = operation
