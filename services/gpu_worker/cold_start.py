"""What a worker takes from its first moment until it can render: told once."""

import time

import psutil
import structlog

from services.gpu_worker.supervisor import Supervisor
from shared.wiring import Wiring

log = structlog.get_logger("promptreel.worker")


async def tell_cold_start(wiring: Wiring, supervisor: Supervisor) -> None:
    """Returns when the model is loaded for the first time."""
    await supervisor.wait_ready()
    seconds = round(time.time() - psutil.Process().create_time(), 3)
    wiring.metrics.cold_start_seconds.observe(seconds)
    log.info(
        "cold start",
        seconds=seconds,
        load_seconds=supervisor.load_seconds,
        device=supervisor.device,
        model=wiring.config.worker_model,
    )
