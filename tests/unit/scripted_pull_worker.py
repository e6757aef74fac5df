"""A worker that pulls, as a process of its own: rendering by script, slow to hand its job back."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from services.gpu_worker.pull import run_worker
from shared.config import Config, load_config
from shared.lifecycle import Lifecycle
from shared.telemetry import configure_logging
from shared.wiring import Wiring, wire


class SlowToRelease(Lifecycle):
    def release(self, *arguments, **fields):
        time.sleep(0.5)  # time for a second signal
        return super().release(*arguments, **fields)


def wire_slowly(config: Config) -> Wiring:
    wired = wire(config)
    return replace(wired, lifecycle=SlowToRelease(**vars(wired.lifecycle)))


configure_logging("json", service="worker")
run_worker(
    load_config(Path(os.environ["PROMPTREEL_CONFIG"])),
    "pulled",
    open_wiring=wire_slowly,
    command=(sys.executable, str(Path(__file__).with_name("scripted_render_process.py"))),
)
