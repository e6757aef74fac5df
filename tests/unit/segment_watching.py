"""A segment that is made elsewhere, and a watcher that remembers what it was told."""

import threading
from dataclasses import dataclass, field

from services.gpu_worker.backends.backend import Segment
from shared.catalog import Size
from tests.unit.vertex_under_test import PROMPT

SEGMENT = Segment(
    prompt=PROMPT,
    negative_prompt="",
    seed=7,
    frames=96,
    fps=24,
    size=Size(1280, 720),
    steps=0,
    guidance_scale=1.0,
    flow_shift=1.0,
)


class Canceled(Exception):
    pass


@dataclass
class Watching:
    """Its clock stands still but for the sleeps that it is asked for."""

    operation: str | None = None
    notes: list[str] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    looks: int = 0
    stop_at_look: int | None = None
    canceled: threading.Event = field(default_factory=threading.Event)
    now: float = 0.0

    def text_encoded(self) -> None:
        raise NotImplementedError

    def step_done(self, step: int, steps: int) -> None:
        raise NotImplementedError

    def decoded(self, fraction: float) -> None:
        raise NotImplementedError

    def still_waiting(self) -> None:
        self.looks += 1
        if self.looks == self.stop_at_look or self.canceled.is_set():
            raise Canceled

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ordered(self, operation: str) -> None:
        self.operation = operation
        self.operations.append(operation)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
