"""The render process, seen from outside: started, talked to, stopped, killed, restarted.

The supervisor never imports torch. A render that hangs, eats all memory, is killed or takes the
process down never costs more than an attempt: a fresh process loads the model before the next claim.
What else was in the process is interrupted where the supervisor had to end it, and has crashed where
it died by itself or took too much memory: then nobody can say whose doing that was.
"""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
import structlog
from anyio.abc import ObjectReceiveStream, Process
from anyio.streams.memory import MemoryObjectSendStream

from services.gpu_worker.event_stream import read_events
from services.gpu_worker.memory import in_megabytes, memory_limit_bytes, wait_until_above
from services.gpu_worker.orders import load_order
from services.gpu_worker.protocol import (
    Cancel,
    Load,
    LoadFailed,
    Ready,
    Render,
    Rendered,
    RenderEnd,
    RenderEvent,
    RenderNews,
)
from services.gpu_worker.render_outcome import RenderInterrupted, result_of
from shared.config import Config
from shared.errors import ModelUnavailable, RenderCrashed

RENDER_PROCESS = (sys.executable, "-m", "services.gpu_worker.render_process")

_RESTART_SECONDS_MIN = 0.5
_RESTART_SECONDS_MAX = 30.0
# A process that has closed its end of the pipe is given this long to be dead.
_DYING_SECONDS = 0.5
_UNKNOWN_CAUSE = "The render process ended unexpectedly."

log = structlog.get_logger("promptreel.supervisor")

Listener = Callable[[RenderNews], None]


class Supervisor:
    """Keeps one render process alive, its model loaded; passes on what it says of each render.

    The process begins renders in the order they are given, each when it has said that the one before is
    ``Denoised``, or has ended.
    """

    def __init__(
        self,
        load: Load,
        *,
        load_timeout_seconds: float,
        grace_seconds: float,
        memory_limit_bytes: int,
        scratch: Path | None = None,
        command: Sequence[str] = RENDER_PROCESS,
    ) -> None:
        """``scratch`` is a folder for what a process leaves behind when it is killed."""
        self._load = load
        self._load_timeout_seconds = load_timeout_seconds
        self._grace_seconds = grace_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._command = command
        self._environment = {**os.environ} | ({"TMPDIR": str(scratch)} if scratch else {})
        self._process: Process | None = None
        self._ready = anyio.Event()
        self._telling = anyio.Lock()
        self._listeners: dict[str, MemoryObjectSendStream[RenderEvent]] = {}  # by job
        self._ended_for: str | None = None  # the job whose render would not stop
        self._cause_of_death = _UNKNOWN_CAUSE  # of the last process, to be read by a job's owner
        self._ending = False
        self.device: str | None = None  # of the last process that was ready
        self.load_seconds: float | None = None

    @property
    def model_loaded(self) -> bool:
        """A render could start now."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def run(self) -> None:
        """Keep a render process alive until ended. Raises ``ModelUnavailable``."""
        failures = 0
        while True:
            was_ready = await self._live_once()
            if self._ending:
                return
            failures = 0 if was_ready else failures + 1
            pause_seconds = min(_RESTART_SECONDS_MIN * 2**failures, _RESTART_SECONDS_MAX)
            log.warning("render process restarts", pause_seconds=pause_seconds)
            await anyio.sleep(pause_seconds)

    def end(self) -> None:
        """The worker goes down: what renders is killed, not asked, and no process follows."""
        self._ending = True
        if self._process is not None:
            self._kill(self._process, "The worker stops.")

    async def render(self, command: Render, listen: Listener) -> Rendered:
        """Render one clip of a job that has no other in work. Cancelling this call stops it.

        Raises ``RenderCrashed`` when the process died, ``RenderInterrupted`` when it was ended for
        another job's sake, or what the render said went wrong.
        """
        await self.wait_ready()
        send, receive = anyio.create_memory_object_stream[RenderEvent](math.inf)
        self._listeners[command.job_id] = send
        with send, receive:
            try:
                if not await self._tell(command):
                    send.close()
                async for event in receive:
                    if isinstance(event, RenderEnd):
                        return result_of(event)
                    listen(event)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self._stop(command.job_id, receive)
                raise
            finally:
                del self._listeners[command.job_id]
        if self._ended_for not in (None, command.job_id):
            raise RenderInterrupted
        raise RenderCrashed(self._cause_of_death)

    async def _live_once(self) -> bool:
        """One process from start to end; True if it ever had its model loaded."""
        refusal: str | None = None
        self._cause_of_death = _UNKNOWN_CAUSE
        self._ended_for = None
        with anyio.CancelScope(deadline=anyio.current_time() + self._load_timeout_seconds) as load:
            # A session of its own: Ctrl-C in a terminal reaches the worker, which decides.
            async with await anyio.open_process(
                self._command,
                stdin=subprocess.PIPE,
                stderr=None,
                env=self._environment,
                start_new_session=True,
            ) as process:
                self._process = process
                try:
                    refusal = await self._watch(process, load)
                finally:
                    self._process = None
                    for listener in self._listeners.values():
                        listener.close()
                    self._kill(process, _UNKNOWN_CAUSE)
        if refusal is not None:
            raise ModelUnavailable(refusal)
        if load.cancelled_caught:
            log.error("model load timed out", seconds=self._load_timeout_seconds)
        else:
            # That it ends with its worker is no failure.
            tell = log.info if self._ending else log.error
            cause = self._cause_of_death
            tell("render process ended", returncode=process.returncode, cause=cause)
        return math.isinf(load.deadline)

    async def _watch(self, process: Process, load: anyio.CancelScope) -> str | None:
        """Until the process ends or must; returns why it cannot load its model, if that is so."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._guard_memory, process)
            await self._tell(self._load)
            refusal = await self._listen(process, load)
            if self._ready.is_set():
                self._ready = anyio.Event()
            with anyio.move_on_after(_DYING_SECONDS):
                await process.wait()
            tasks.cancel_scope.cancel()
        if process.returncode == -signal.SIGKILL and self._cause_of_death == _UNKNOWN_CAUSE:
            self._cause_of_death = "The render was killed, most likely because memory ran out."
        return refusal

    async def _guard_memory(self, process: Process) -> None:
        await wait_until_above(process.pid, self._memory_limit_bytes)
        limit = f"its limit is {in_megabytes(self._memory_limit_bytes)} MB"
        what_to_do = "A shorter or smaller video takes less."
        self._kill(process, f"The render ran out of memory ({limit}). {what_to_do}")

    def _kill(self, process: Process, cause: str) -> None:
        """The whole session: what a render has started must not outlive it, nor hold its pipe."""
        if process.returncode is None and self._cause_of_death == _UNKNOWN_CAUSE:
            self._cause_of_death = cause
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

    async def _listen(self, process: Process, load: anyio.CancelScope) -> str | None:
        """Pass on what the process says until its end; return why it cannot load its model."""
        assert process.stdout is not None  # noqa: S101 - open_process was asked for a pipe
        async with aclosing(read_events(process.stdout)) as events:
            async for event in events:
                match event:
                    case Ready():
                        load.deadline = math.inf
                        self._loaded(event)
                    case LoadFailed():
                        # Once it was loaded, this is some render's nonsense, and no reason to end.
                        return None if self.model_loaded else event.message
                    case _:
                        await self._pass_on(event)
        return None

    def _loaded(self, event: Ready) -> None:
        self.device, self.load_seconds = event.device, event.load_seconds
        for warning in event.warnings:
            log.warning("model loaded otherwise than configured", reason=warning)
        self._ready.set()
        log.info("model loaded", device=event.device, seconds=event.load_seconds)

    async def _pass_on(self, event: RenderEvent) -> None:
        listener = self._listeners.get(event.job_id)
        if listener is not None:  # else a late word about an earlier render
            # Closed: the render was given up, and what it still says is nobody's business.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await listener.send(event)

    async def _tell(self, command: Load | Render | Cancel) -> bool:
        """Whether there was a process to tell; if it has just died, who listens to it is told so."""
        process = self._process
        if process is None or process.stdin is None:
            return False
        async with self._telling:  # One line must not come into the middle of another.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await process.stdin.send(command.encode())
        return True

    async def _stop(self, job_id: str, events: ObjectReceiveStream[RenderEvent]) -> None:
        """Between two steps if it listens, by SIGTERM if not, by SIGKILL at last.

        The signals end the whole process: other renders in it are interrupted.
        """
        process = self._process
        if process is None or await self._stops_when_told(job_id, events):
            return
        log.warning("render does not stop", escalation="terminate")
        self._ended_for = job_id
        with suppress(ProcessLookupError):
            process.terminate()
        # Until it is known to be gone: the next render must not be given to it.
        with anyio.move_on_after(self._grace_seconds):
            await _end_of_process(events)
            return
        log.warning("render does not stop", escalation="kill")
        self._kill(process, "The render did not stop when it was told to.")
        await _end_of_process(events)

    async def _stops_when_told(self, job_id: str, events: ObjectReceiveStream[RenderEvent]) -> bool:
        with anyio.move_on_after(self._grace_seconds):
            await self._tell(Cancel(job_id=job_id))
            async for event in events:
                if isinstance(event, RenderEnd):
                    break
            return True
        return False


def supervisor_of(
    config: Config, *, scratch: Path, command: Sequence[str] = RENDER_PROCESS
) -> Supervisor:
    """A supervisor for the model the configuration names."""
    return Supervisor(
        load_order(config),
        load_timeout_seconds=config.worker.load_timeout_seconds,
        grace_seconds=config.worker.grace_seconds,
        memory_limit_bytes=memory_limit_bytes(config.worker.memory_limit_mb),
        scratch=scratch,
        command=command,
    )


async def _end_of_process(events: ObjectReceiveStream[RenderEvent]) -> None:
    """Until nothing can be said any more."""
    async for _ in events:
        pass
