"""The worker that is pushed to: renders what stands in line, first come first served.

It lives on Trio in a thread of its own. A message is claimed only when its render can start, that is
when the device is free and the worker has room; until then whoever brought it may give it up.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskStatus

from services.gpu_worker.cold_start import tell_cold_start
from services.gpu_worker.consumer import Consumer
from services.gpu_worker.presence import Presence
from services.gpu_worker.push_answers import Answer, PushAnswers
from services.gpu_worker.supervisor import supervisor_of
from shared.catalog import find_model
from shared.errors import TransientError
from shared.ports import Delivery
from shared.wiring import Wiring

_STOP_POLL_SECONDS = 0.2

log = structlog.get_logger("promptreel.push")


class PushWorker:
    """Made and used inside the event loop; the answers may be waited for in any thread."""

    def __init__(
        self,
        wiring: Wiring,
        *,
        instance: str,
        workspace: Path,
        line_length: int,
        command: Sequence[str],
        stop_requested: Callable[[], bool],
        is_first: bool = True,
    ) -> None:
        """Only the process's first worker starts cold: another one follows a failure."""
        self._wiring = wiring
        self._is_first = is_first
        self._answers = PushAnswers(wiring.queue)
        pushed_to = replace(wiring, queue=self._answers)
        self._supervisor = supervisor_of(wiring.config, scratch=workspace, command=command)
        self._consumer = Consumer(
            pushed_to,
            self._supervisor,
            instance=instance,
            workspace=workspace,
            # A longer one would be pushed again meanwhile.
            longest_render_seconds=find_model(wiring.config.worker_model).max_render_seconds,
        )
        self._presence = Presence(wiring, self._supervisor, self._consumer, instance=instance)
        self._end_of_line, self._line = anyio.create_memory_object_stream[
            tuple[Delivery, Future[Answer]]
        ](line_length)
        self._stop_requested = stop_requested
        self._stopping = anyio.Event()

    @property
    def model_loaded(self) -> bool:
        return self._supervisor.model_loaded

    async def run(self) -> None:
        """Until it is told to stop. Raises ``ModelUnavailable`` when no render is possible."""
        with self._line, self._end_of_line:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._supervisor.run)
                    tasks.start_soon(self._presence.run)
                    if self._is_first:
                        tasks.start_soon(tell_cold_start, self._wiring, self._supervisor)
                    tasks.start_soon(self._work)
                    tasks.start_soon(self._watch_for_a_stop)
                    await self._stopping.wait()
                    # Who stands in line need not wait for the jobs in work, which must be handed
                    # back before they are delivered again: else they find a lease, and are dropped.
                    self._answers.redeliver_waiting()
                    await self._consumer.hand_back()
                    tasks.cancel_scope.cancel()
            finally:
                self._stopping.set()
                self._answers.redeliver_all()

    def stop(self) -> None:
        """Hand the running jobs back and answer every request."""
        self._stopping.set()

    def line_up(self, delivery: Delivery) -> Future[Answer]:
        """Stand in line; to be delivered again at once when the line is full or closed."""
        answer = self._answers.expect(delivery)
        if self._stopping.is_set():
            self._answers.release(delivery)
            return answer
        try:
            self._end_of_line.send_nowait((delivery, answer))
        except anyio.WouldBlock:
            log.warning("line is full", job_id=delivery.message.job_id)
            self._answers.release(delivery)
        return answer

    async def _work(self) -> None:
        async with anyio.create_task_group() as jobs:
            async for delivery, answer in self._line:
                await self._consumer.wait_for_room()
                await self._supervisor.wait_ready()
                if self._stopping.is_set():
                    return
                # Given up while it stood in line: it must not be claimed.
                if answer.set_running_or_notify_cancel():
                    # Until the device is free again.
                    await jobs.start(self._consume, delivery)

    async def _consume(self, delivery: Delivery, *, task_status: TaskStatus[None]) -> None:
        try:
            await self._consumer.consume(delivery, task_status=task_status)
        except TransientError as error:
            # The job comes back at the end of its lease, the message with this answer.
            log.warning("message not answered", code=error.code)
            self._answers.release(delivery)

    async def _watch_for_a_stop(self) -> None:
        while not self._stop_requested():  # noqa: ASYNC110 - it is the server's, and no event of ours
            await anyio.sleep(_STOP_POLL_SECONDS)
        log.info("worker stops")
        self.stop()
