"""A backend whose model does what its prompt says, so that a test decides who waits for whom.

fine      is denoised and decoded at once
held      is decoded once there is a file ``go`` in the model's directory; hears a cancel meanwhile
stuck     is denoised for ever; hears a cancel
burnt     breaks while it is denoised
torn      breaks while it is decoded
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.gpu_worker.backends.backend import Abilities

_PATIENCE_SECONDS = 60


@dataclass
class ScriptedModel:
    folder: Path
    device: str = "scripted"

    def __post_init__(self):
        self._turn = threading.Lock()

    @property
    def abilities(self):
        return Abilities(first_frame=True)

    def generate(self, segment, watcher):
        assert self._turn.acquire(blocking=False), "two clips are denoised at once"
        try:
            for step in range(1, segment.steps + 1):
                watcher.step_done(step, segment.steps)
            if segment.prompt == "burnt":
                raise ValueError("no more steps")
            while segment.prompt == "stuck":
                time.sleep(0.01)
                watcher.text_encoded()
        finally:
            self._turn.release()
        return ScriptedLatents(segment, self.folder / "go")


@dataclass
class ScriptedLatents:
    segment: object
    go: Path

    def decode(self, watcher):
        if self.segment.prompt == "torn":
            raise ValueError("no frames")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.segment.prompt == "held" and not self.go.exists():
            assert time.monotonic() < deadline, "nobody let this clip go on"
            time.sleep(0.01)
            watcher.decoded(0.0)
        size = self.segment.size
        return np.full((self.segment.frames, size.height, size.width, 3), 90, dtype=np.uint8)


def load(_model, order, *, warn):
    return ScriptedModel(order.model_dir)
