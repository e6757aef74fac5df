"""A worker's heartbeat: what it is, whether its model is loaded, which job it has begun last."""

from functools import partial

import anyio
import structlog

from services.gpu_worker.consumer import Consumer
from services.gpu_worker.port_calls import call_port
from services.gpu_worker.supervisor import Supervisor
from shared.errors import TransientError
from shared.ports import WorkerBeat
from shared.wiring import Wiring

log = structlog.get_logger("promptreel.presence")


class Presence:
    """Tells the job store that this worker lives."""

    def __init__(
        self, wiring: Wiring, supervisor: Supervisor, consumer: Consumer, *, instance: str
    ) -> None:
        self._wiring = wiring
        self._supervisor = supervisor
        self._consumer = consumer
        self._instance = instance

    async def run(self) -> None:
        """Until cancelled: every few seconds, and at once when the model is loaded."""
        while True:
            await self._say_alive()
            with anyio.move_on_after(self._wiring.config.worker.heartbeat_seconds):
                if self._supervisor.model_loaded:
                    await anyio.sleep_forever()
                await self._supervisor.wait_ready()

    async def _say_alive(self) -> None:
        beat = WorkerBeat(
            instance=self._instance,
            model=self._wiring.config.worker_model,
            device=self._supervisor.device,
            model_loaded=self._supervisor.model_loaded,
            job_id=self._consumer.job_id,
            seen_at=self._wiring.lifecycle.now(),
        )
        try:
            await call_port(partial(self._wiring.store.beat, beat))
        except TransientError as error:
            log.warning("heartbeat not stored", code=error.code)
