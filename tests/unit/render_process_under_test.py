"""The render process over real pipes, as its tests start it and talk to it."""

import itertools
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from services.gpu_worker.protocol import (
    Render,
    RenderCanceled,
    Rendered,
    RenderFailed,
    parse_event,
)

REPOSITORY = Path(__file__).parents[2]
PROMPT = "a red circle moves left"
ENDINGS = (Rendered, RenderFailed, RenderCanceled)


class Child:
    def __init__(self, process):
        self.process = process

    def send(self, *commands):
        self.process.stdin.write(b"".join(command.encode() for command in commands))
        self.process.stdin.flush()

    def next_event(self):
        line = self.process.stdout.readline()
        assert line, f"the process ended with {self.process.wait(timeout=10)}"
        return parse_event(line)

    def events_until(self, *kinds):
        """The events up to and with the first of these kinds."""
        events = [self.next_event()]
        while not isinstance(events[-1], kinds):
            events.append(self.next_event())
        return events


@contextmanager
def start(folder, *, program=("-m", "services.gpu_worker.render_process")):
    """A render process; its standard error is in ``folder / "stderr"``."""
    with (
        (folder / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, *program],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        try:
            yield Child(process)
        finally:
            process.kill()


def orders(folder):
    """Makes renders, each with a work directory and a job of its own."""
    numbers = itertools.count()

    def order(**changes):
        number = next(numbers)
        work_dir = folder / str(number)
        work_dir.mkdir()
        fields = {
            "job_id": f"{folder.name}-{number}",
            "prompt": PROMPT,
            "negative_prompt": "",
            "seed": 1,
            "frames": 5,
            "fps": 16,
            "native_width": 64,
            "native_height": 48,
            "output_width": 128,
            "output_height": 96,
            "steps": 2,
            "guidance_scale": 5.0,
            "flow_shift": 3.0,
            "work_dir": work_dir,
        }
        return Render(**(fields | changes))

    return order
