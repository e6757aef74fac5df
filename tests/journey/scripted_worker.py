"""A worker that pulls, as in production but for its render process, which renders by script at once."""

import sys
from pathlib import Path

from services.gpu_worker.pull import run_worker
from shared.config import load_config
from shared.settings import read_settings
from shared.telemetry import configure_logging

RENDER_PROCESS = Path(__file__).parents[1] / "unit" / "scripted_render_process.py"

settings = read_settings()
config = load_config(settings.config_file)
configure_logging(settings.log_format, service="worker", project=config.gcp.project)
run_worker(
    config,
    settings.instance,
    command=(sys.executable, str(RENDER_PROCESS)),
)
