"""What functions-framework runs in a test: the worker's own entry, rendering by script."""

import os
import sys
from pathlib import Path

import flask

from services.gpu_worker.main import install, render
from services.gpu_worker.push_service import PushService
from shared.config import load_config
from shared.telemetry import configure_logging

__all__ = ["render"]

configure_logging("json", service="worker")
install(
    flask.current_app,
    PushService(
        load_config(Path(os.environ["PROMPTREEL_CONFIG"])),
        instance="pushed",
        command=(sys.executable, str(Path(__file__).with_name("scripted_render_process.py"))),
    ),
)
