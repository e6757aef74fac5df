"""The real worker that pulls, behind tripwires, with a clock that goes wrong.

Its render process is the real one with ``--real``, else a stand-in that needs no model.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from services.gpu_worker.pull import run_worker
from services.gpu_worker.supervisor import RENDER_PROCESS
from services.torture.tripwires import wire_with_tripwires
from shared.config import find_config, load_config
from shared.lifeline import exit_with_parent
from shared.settings import read_settings
from shared.telemetry import configure_logging

_STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--trips", type=Path, required=True)
    parser.add_argument("--clock-skew-seconds", type=float, default=0.0)
    parser.add_argument("--real", action="store_true")
    arguments = parser.parse_args()
    exit_with_parent()
    settings = read_settings()
    configure_logging(settings.log_format, service="worker")
    run_worker(
        load_config(find_config(settings.config_file)),
        f"{arguments.name}-{settings.instance}",
        open_wiring=partial(
            wire_with_tripwires,
            folder=arguments.trips,
            clock_skew_seconds=arguments.clock_skew_seconds,
        ),
        command=RENDER_PROCESS if arguments.real else _STAND_IN,
    )


if __name__ == "__main__":
    main()
