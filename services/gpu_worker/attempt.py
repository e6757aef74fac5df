"""One claim of one job, kept alive: lease, message deadline, progress, log, and the ear for a stop."""

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial

import anyio
import structlog

from services.gpu_worker.port_calls import call_port, insist
from services.gpu_worker.protocol import Denoised, LogLine, PartMade, Progress, RenderNews
from shared.errors import JobNotFound, LeaseLost, PromptreelError, TransientError
from shared.job import Job, Lease, Phase
from shared.ports import Delivery
from shared.telemetry import Span
from shared.wiring import Wiring

# How long a cancel request may go unnoticed.
_TICK_SECONDS = 0.4
# Firestore's advice: one write a second to one document.
_REPORT_SECONDS = 1.0
# Of a line in the job's log: a render that babbles must not fill the worker, nor a document.
_LINE_CHARS = 2000
# How long a store that does not answer is asked whether the job is still ours.
_DOUBT_SECONDS = 10.0

log = structlog.get_logger("promptreel.attempt")


class StopReason(StrEnum):
    CANCEL_REQUESTED = "cancel_requested"
    LEASE_LOST = "lease_lost"
    HANDED_BACK = "handed_back"


class Attempt:
    """All writes about a running job go through here, one at a time."""

    def __init__(
        self,
        job: Job,
        lease: Lease,
        delivery: Delivery,
        wiring: Wiring,
        *,
        leave_device: Callable[[], None],
        span: Span,
    ) -> None:
        self.job = job
        self.token = lease.token
        self.delivery = delivery
        self.span = span  # of the message that it came by
        self.stop_reason: StopReason | None = None
        # What a stop cancels: the render and the upload.
        self.scope = anyio.CancelScope()
        # Its outcome is known and on its way to the store: too late for any stop.
        self.is_settling = False
        # Nothing of it is left in this worker: neither its folder nor its render.
        self.over = anyio.Event()
        # The next job may be begun. Called as soon as that is true, and perhaps again.
        self.leave_device = leave_device
        # A part of the video is worth keeping.
        self.part_made: Callable[[str], None] = lambda _name: None
        self._wiring = wiring
        self._writing = anyio.Lock()
        self._progress: tuple[Phase, float] | None = None
        # The store would drop the oldest beyond this number anyway.
        self._lines: deque[str] = deque(maxlen=wiring.config.limits.log_lines_per_job)
        self._renewed_at = self._reported_at = time.monotonic()

    def hear(self, event: RenderNews) -> None:
        """Note what the render says; it is stored at the next tick."""
        match event:
            case LogLine():
                self._lines.append(event.text[:_LINE_CHARS])
            case Progress():
                self._progress = (Phase(event.phase), event.fraction)
            case PartMade():
                self.part_made(event.name)
            case Denoised():
                self.leave_device()

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
                async with self._writing:
                    await self._sync()
            except (LeaseLost, JobNotFound):
                self.stop(StopReason.LEASE_LOST)
                return
            except TransientError as error:
                # The lease outlives a short outage; if it does not, the next tick says so.
                log.warning("job not tended", job_id=self.job.id, code=error.code)

    async def make_sure(self) -> None:
        """The job is still ours and still wanted, or this stops the attempt.

        Raises ``TransientError`` when the store does not say.
        """
        try:
            async with self._writing:
                self._heed(await insist(self._heartbeat, seconds=_DOUBT_SECONDS))
        except (LeaseLost, JobNotFound):
            self.stop(StopReason.LEASE_LOST)

    def give_up(self, why: str) -> bool:
        """From here on nothing is told about the job but that it is handed back, which is to follow.

        False if it is ending by itself already.
        """
        if self.stop_reason is not None or self.is_settling:
            return False
        self.stop_reason = StopReason.HANDED_BACK
        self.note(f"handed back: {why}")
        return True

    async def hand_back(self, *, seconds: float) -> None:
        """Given up: give job and message to whoever comes next, then stop. Costs no attempt."""
        release = partial(self._wiring.lifecycle.release, self.job.id, token=self.token)
        again = partial(self._wiring.queue.release, self.delivery, delay_seconds=0)
        try:
            async with self._writing:
                await insist(release, seconds=seconds)
                await insist(again, seconds=seconds)
        except (LeaseLost, JobNotFound, TransientError) as error:
            log.warning("job not handed back", job_id=self.job.id, code=error.code)
        finally:
            self.scope.cancel()

    async def flush(self) -> None:
        """Store the log lines that are left; a log is never a reason to fail."""
        try:
            async with self._writing:
                await self._store_lines()
        except PromptreelError as error:
            log.warning("log lines lost", job_id=self.job.id, code=error.code)

    async def _sync(self) -> None:
        """Write the least that must be written now, and what keeps no stop waiting last."""
        now = time.monotonic()
        renewal_due = now - self._renewed_at >= self._wiring.config.worker.heartbeat_seconds
        if self._progress is not None and now - self._reported_at >= _REPORT_SECONDS:
            (phase, fraction), self._progress = self._progress, None
            self._reported_at = now
            report = partial(self._wiring.lifecycle.report, phase=phase, fraction=fraction)
            self._heed(await call_port(partial(report, self.job.id, token=self.token)))
        elif renewal_due:
            self._heed(await call_port(self._heartbeat))
        else:
            job = await call_port(partial(self._wiring.store.get, self.job.id))
            if job.lease is None or job.lease.token != self.token:
                raise LeaseLost("the job is no longer this worker's")
            self._heed(job)
        await self._store_lines()
        if renewal_due:
            self._renewed_at = now
            await call_port(partial(self._wiring.queue.extend, self.delivery))

    def _heartbeat(self) -> Job:
        return self._wiring.lifecycle.heartbeat(self.job.id, token=self.token)

    def _heed(self, job: Job) -> None:
        self.job = job
        if job.cancel_requested_at is not None:
            self.stop(StopReason.CANCEL_REQUESTED)

    async def _store_lines(self) -> None:
        lines, self._lines = self._lines, self._lines.copy()
        self._lines.clear()
        if not lines:
            return
        append = partial(self._wiring.store.append_log, now=self._wiring.lifecycle.now())
        try:
            await call_port(partial(append, self.job.id, [*lines]))
        except TransientError:
            lines.extend(self._lines)
            self._lines = lines  # They are stored when the store is back.
            raise
