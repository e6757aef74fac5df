"""One claim of one job, kept alive: lease, message deadline, progress, log, and the ear for a stop."""

import time
from enum import StrEnum
from functools import partial

import anyio
import structlog
from anyio import to_thread

from services.gpu_worker.protocol import LogLine, Progress
from shared.errors import JobNotFound, LeaseLost, PromptreelError, TransientError
from shared.job import Job, Lease, Phase
from shared.ports import Delivery
from shared.wiring import Wiring

# How long a cancel request may go unnoticed.
_TICK_SECONDS = 0.4
# Firestore's advice: one write a second to one document.
_REPORT_SECONDS = 1.0

log = structlog.get_logger("promptreel.attempt")


class StopReason(StrEnum):
    CANCEL_REQUESTED = "cancel_requested"
    LEASE_LOST = "lease_lost"
    SHUTDOWN = "shutdown"


class Attempt:
    """All writes about a running job go through here, one at a time."""

    def __init__(self, job: Job, lease: Lease, delivery: Delivery, wiring: Wiring) -> None:
        self.job = job
        self.token = lease.token
        self.delivery = delivery
        self.stop_reason: StopReason | None = None
        # What a stop cancels: the render and the upload.
        self.scope = anyio.CancelScope()
        self._wiring = wiring
        self._progress: tuple[Phase, float] | None = None
        self._lines: list[str] = []
        self._renewed_at = self._reported_at = time.monotonic()

    def hear(self, event: Progress | LogLine) -> None:
        """Note what the render says; it is stored at the next tick."""
        if isinstance(event, LogLine):
            self._lines.append(event.text)
        else:
            self._progress = (Phase(event.phase), event.fraction)

    def note(self, line: str) -> None:
        """Add a line of our own to the job's log."""
        self._lines.append(line)

    def enter(self, phase: Phase, fraction: float = 0.0) -> None:
        self._progress = (phase, fraction)

    def stop(self, reason: StopReason) -> None:
        """Cancel what is running; the first reason counts."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.scope.cancel()

    async def tend(self) -> None:
        """Until cancelled: renew the lease, store progress and log, watch for a reason to stop."""
        while True:
            await anyio.sleep(_TICK_SECONDS)
            try:
                await self._sync()
            except (LeaseLost, JobNotFound):
                self.stop(StopReason.LEASE_LOST)
                return
            except TransientError as error:
                # The lease outlives a short outage; if it does not, the next tick says so.
                log.warning("job not tended", job_id=self.job.id, code=error.code)
            if self.job.cancel_requested_at is not None:
                self.stop(StopReason.CANCEL_REQUESTED)

    async def flush(self) -> None:
        """Store the log lines that are left; a log is never a reason to fail."""
        try:
            await self._store_lines()
        except PromptreelError as error:
            log.warning("log lines lost", job_id=self.job.id, code=error.code)

    async def _sync(self) -> None:
        """Write the least that must be written now."""
        await self._store_lines()
        now = time.monotonic()
        renewal_due = now - self._renewed_at >= self._wiring.config.worker.heartbeat_seconds
        if self._progress is not None and now - self._reported_at >= _REPORT_SECONDS:
            (phase, fraction), self._progress = self._progress, None
            self._reported_at = now
            call = partial(self._wiring.lifecycle.report, phase=phase, fraction=fraction)
            self.job = await to_thread.run_sync(partial(call, self.job.id, token=self.token))
        elif renewal_due:
            call = partial(self._wiring.lifecycle.heartbeat, self.job.id, token=self.token)
            self.job = await to_thread.run_sync(call)
        else:
            self.job = await to_thread.run_sync(self._wiring.store.get, self.job.id)
            if self.job.lease is None or self.job.lease.token != self.token:
                raise LeaseLost("the job is no longer this worker's")
        if renewal_due:
            self._renewed_at = now
            await to_thread.run_sync(self._wiring.queue.extend, self.delivery)

    async def _store_lines(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        call = partial(self._wiring.store.append_log, now=self._wiring.lifecycle.now())
        try:
            await to_thread.run_sync(call, self.job.id, lines)
        except TransientError:
            self._lines[:0] = lines  # They are stored when the store is back.
            raise
