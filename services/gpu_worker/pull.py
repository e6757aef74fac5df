"""The worker that pulls: `python -m services.gpu_worker.pull`. One machine, or a worker pool.

Trio's structured concurrency holds it together: when one of its tasks ends the worker, every other
one, the render process included, has ended before the process does.
"""

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import TASK_STATUS_IGNORED, to_thread
from anyio.abc import TaskStatus
from prometheus_client import start_http_server

from services.gpu_worker.cold_start import tell_cold_start
from services.gpu_worker.consumer import Consumer
from services.gpu_worker.port_calls import call_port
from services.gpu_worker.presence import Presence
from services.gpu_worker.supervisor import RENDER_PROCESS, supervisor_of
from services.gpu_worker.workspace import open_workspace
from shared.catalog import find_model
from shared.config import Config, find_config, for_backend, load_config, overridden
from shared.errors import (
    EXIT_CONFIGURATION,
    ConfigurationError,
    ModelUnavailable,
    PromptreelError,
    TransientError,
)
from shared.lifeline import exit_with_parent
from shared.ports import Delivery
from shared.settings import read_settings
from shared.telemetry import configure_logging
from shared.wiring import Wiring, wire

# Waiting longer would keep a worker that was told to stop.
_RECEIVE_SECONDS = 1.0
_PAUSE_SECONDS = 1.0

log = structlog.get_logger("promptreel.worker")

_wire = partial(wire, service="worker")


class Worker:
    """Receives messages, keeps the supervisor running, says it is alive, sweeps."""

    def __init__(
        self,
        wiring: Wiring,
        *,
        instance: str,
        workspace: Path,
        command: Sequence[str] = RENDER_PROCESS,
    ) -> None:
        self._wiring = wiring
        self._model = find_model(wiring.config.worker_model)
        self._supervisor = supervisor_of(wiring.config, scratch=workspace, command=command)
        self._consumer = Consumer(wiring, self._supervisor, instance=instance, workspace=workspace)
        self._presence = Presence(wiring, self._supervisor, self._consumer, instance=instance)
        self._stopping = anyio.Event()

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises ``ModelUnavailable`` when no render is possible."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            # The ear outlives the rest: a signal nobody has heard would end the worker half-way.
            async with anyio.create_task_group() as ear:
                ear.start_soon(self._hear, signals)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._supervisor.run)
                    tasks.start_soon(self._presence.run)
                    tasks.start_soon(tell_cold_start, self._wiring, self._supervisor)
                    tasks.start_soon(self._sweep)
                    tasks.start_soon(self._work)
                    await self._stopping.wait()
                    await self._consumer.hand_back()
                    tasks.cancel_scope.cancel()
                ear.cancel_scope.cancel()

    async def _hear(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            log.info("worker stops", signal=number.name)
            self._stopping.set()

    async def _work(self) -> None:
        """Receive a message only when its job can be begun: nothing waits in here, unclaimed."""
        async with anyio.create_task_group() as jobs:
            while not self._stopping.is_set():
                await self._consumer.wait_for_room()
                await self._supervisor.wait_ready()
                # Shielded: a message received in the very moment of a stop is handed back, not lost
                # until its deadline.
                with anyio.CancelScope(shield=True):
                    delivery = await self._receive()
                    if delivery is not None and self._stopping.is_set():
                        await self._consume(delivery)
                        return
                if delivery is not None:
                    # Until the device is free again.
                    await jobs.start(self._consume, delivery)

    async def _receive(self) -> Delivery | None:
        receive = partial(self._wiring.queue.receive, wait_seconds=_RECEIVE_SECONDS)
        try:
            return await to_thread.run_sync(receive, [self._model.topic])
        except TransientError as error:
            log.warning("no message received", code=error.code)
            await anyio.sleep(_PAUSE_SECONDS)
            return None

    async def _consume(
        self, delivery: Delivery, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        try:
            await self._consumer.consume(delivery, task_status=task_status)
        except TransientError as error:
            # The message comes back at its deadline, the job at the end of its lease.
            log.warning("message not answered", code=error.code)

    async def _sweep(self) -> None:
        while True:
            try:
                await call_port(self._wiring.lifecycle.sweep)
            except TransientError as error:
                log.warning("not swept", code=error.code)
            await anyio.sleep(self._wiring.config.worker.sweep_seconds)


def main() -> None:
    """Run a worker; exits 2 when the configuration or the model cannot be used."""
    parser = argparse.ArgumentParser(description="A Promptreel worker that pulls its messages.")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the parent ends")
    parser.add_argument("--backend", help="what it renders with, instead of worker.backend")
    arguments = parser.parse_args()
    if arguments.exit_with_parent:
        exit_with_parent()
    try:
        settings = read_settings()
        config = load_config(find_config(settings.config_file))
        if arguments.backend is not None:
            config = beside_the_default(for_backend(config, arguments.backend))
        configure_logging(settings.log_format, service="worker", project=config.gcp.project)
        run_worker(config, settings.instance)
    except (ConfigurationError, ModelUnavailable) as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_CONFIGURATION)


def beside_the_default(config: Config) -> Config:
    """Another backend's worker on the same machine serves its metrics next to the default one's."""
    worker = config.worker
    if worker.backend == config.default_backend or worker.metrics_port is None:
        return config
    return overridden(
        config, {"worker": worker.model_dump() | {"metrics_port": worker.metrics_port + 1}}
    )


def run_worker(
    config: Config,
    instance: str,
    *,
    open_wiring: Callable[[Config], Wiring] = _wire,
    command: Sequence[str] = RENDER_PROCESS,
) -> None:
    """Until SIGTERM or SIGINT. Raises ``ConfigurationError`` and ``ModelUnavailable``."""
    wiring = open_wiring(config)
    try:
        if config.worker.metrics_port is not None:
            _serve_metrics(wiring, config.worker.metrics_port)
        gone = partial(_worker_died, wiring)
        root = config.data_dir / "work"
        with open_workspace(root, instance=instance, gone=gone) as workspace:
            worker = Worker(wiring, instance=instance, workspace=workspace, command=command)
            anyio.run(worker.run, backend="trio")
    except* PromptreelError as group:
        # A task group raises what one of its tasks raised as a group of one.
        raise _only(group) from None
    finally:
        wiring.close()


def _worker_died(wiring: Wiring, worker: str, job_id: str) -> None:
    """Its jobs need not wait for the end of their leases: this worker's first sweep takes them back."""
    log.warning("a worker on this machine has died", worker=worker, job_id=job_id)
    try:
        wiring.lifecycle.worker_died(worker, job_id)
    except TransientError as error:
        log.warning("its lease has to expire", job_id=job_id, code=error.code)


def _serve_metrics(wiring: Wiring, port: int) -> None:
    try:
        start_http_server(port, addr="127.0.0.1", registry=wiring.metrics.registry)
    except OSError as error:
        log.warning("no metrics served", port=port, reason=error.strerror)


def _only(group: BaseExceptionGroup[PromptreelError]) -> PromptreelError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, PromptreelError)  # noqa: S101 - except* let nothing else in
    return error


if __name__ == "__main__":
    main()
