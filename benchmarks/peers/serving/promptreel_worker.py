"""Promptreel's own worker that pulls, run as a script; only its render process is another one.

``run_worker`` takes the command of the render process as an argument: nothing of the worker is changed.
"""

import sys
from pathlib import Path

from services.gpu_worker.pull import run_worker
from shared.config import find_config, load_config
from shared.lifeline import exit_with_parent
from shared.settings import read_settings
from shared.telemetry import configure_logging

_NO_OP = (sys.executable, str(Path(__file__).with_name("promptreel_render.py")))


def main() -> None:
    exit_with_parent()
    settings = read_settings()
    configure_logging(settings.log_format, service="worker")
    run_worker(load_config(find_config(settings.config_file)), settings.instance, command=_NO_OP)


if __name__ == "__main__":
    main()
