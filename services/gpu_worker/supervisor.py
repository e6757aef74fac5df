"""The render process, seen from outside: started, talked to, stopped, killed, restarted.

The supervisor never imports torch. A render that hangs, is killed or takes the process down costs
its own attempt and nothing else: a fresh process loads the model before the next claim.
"""

import math
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import anyio
import structlog
from anyio.abc import ByteReceiveStream, ObjectReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectSendStream
from pydantic import ValidationError

from services.gpu_worker.protocol import (
    Cancel,
    Event,
    Load,
    LoadFailed,
    LogLine,
    Progress,
    Ready,
    Render,
    RenderCanceled,
    Rendered,
    RenderFailed,
    parse_event,
)
from shared.config import Config
from shared.errors import (
    BackendUnavailable,
    InvalidRequest,
    ModelUnavailable,
    PromptreelError,
    PromptRefused,
    RenderCrashed,
)

RENDER_PROCESS = (sys.executable, "-m", "services.gpu_worker.render_process")

_MAX_LINE_BYTES = 1024 * 1024
_RESTART_SECONDS_MIN = 0.5
_RESTART_SECONDS_MAX = 30.0
# What a render may say went wrong; anything else is a crash.
_RENDER_ERRORS = (BackendUnavailable, InvalidRequest, ModelUnavailable, PromptRefused)

log = structlog.get_logger("promptreel.supervisor")

Listener = Callable[[Progress | LogLine], None]


class RenderStopped(Exception):
    """The render process stopped the render as it was told to."""


class Supervisor:
    """Keeps one render process alive, its model loaded; gives it one render at a time."""

    def __init__(
        self,
        load: Load,
        *,
        load_timeout_seconds: float,
        grace_seconds: float,
        command: Sequence[str] = RENDER_PROCESS,
    ) -> None:
        self._load = load
        self._load_timeout_seconds = load_timeout_seconds
        self._grace_seconds = grace_seconds
        self._command = command
        self._process: Process | None = None
        self._ready = anyio.Event()
        self._listener: MemoryObjectSendStream[Event] | None = None
        self.device: str | None = None  # of the last process that was ready
        self.load_seconds: float | None = None

    @property
    def model_loaded(self) -> bool:
        """A render could start now."""
        return self._ready.is_set()

    async def wait_ready(self) -> None:
        await self._ready.wait()

    async def run(self) -> None:
        """Keep a render process alive until cancelled. Raises ``ModelUnavailable``."""
        failures = 0
        while True:
            was_ready = await self._live_once()
            failures = 0 if was_ready else failures + 1
            pause_seconds = min(_RESTART_SECONDS_MIN * 2**failures, _RESTART_SECONDS_MAX)
            log.warning("render process restarts", pause_seconds=pause_seconds)
            await anyio.sleep(pause_seconds)

    async def render(self, command: Render, listen: Listener) -> Rendered:
        """Render one clip. Cancelling this call stops the render, gently at first.

        Raises ``RenderCrashed`` when the process died, or what the render said went wrong.
        """
        await self.wait_ready()
        send, receive = anyio.create_memory_object_stream[Event](math.inf)
        self._listener = send
        with send, receive:
            try:
                await self._tell(command)
                async for event in receive:
                    if isinstance(event, Progress | LogLine):
                        listen(event)
                    else:
                        return _result(event)
            except anyio.get_cancelled_exc_class():
                with anyio.CancelScope(shield=True):
                    await self._stop(command.job_id, receive)
                raise
            finally:
                self._listener = None
        raise RenderCrashed("The render process ended unexpectedly.")

    async def _live_once(self) -> bool:
        """One process from start to end; True if it ever had its model loaded."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._load_timeout_seconds) as load:
            # A session of its own: Ctrl-C in a terminal reaches the worker, which decides.
            async with await anyio.open_process(
                self._command, stdin=subprocess.PIPE, stderr=None, start_new_session=True
            ) as process:
                self._process = process
                try:
                    await self._tell(self._load)
                    await self._listen(process, load)
                finally:
                    self._process = None
                    if self._listener is not None:
                        self._listener.close()
                    was_ready, self._ready = self._ready.is_set(), anyio.Event()
                    with suppress(ProcessLookupError):
                        process.kill()
        if load.cancelled_caught:
            log.error("model load timed out", seconds=self._load_timeout_seconds)
        else:
            log.error("render process ended", returncode=process.returncode)
        return was_ready

    async def _listen(self, process: Process, load: anyio.CancelScope) -> None:
        assert process.stdout is not None  # noqa: S101 - open_process was asked for a pipe
        async with aclosing(_events(process.stdout)) as events:
            async for event in events:
                match event:
                    case Ready():
                        load.deadline = math.inf
                        self._loaded(event)
                    case LoadFailed():
                        raise ModelUnavailable(event.message)
                    case _:
                        await self._pass_on(event)

    def _loaded(self, event: Ready) -> None:
        self.device, self.load_seconds = event.device, event.load_seconds
        self._ready.set()
        log.info("model loaded", device=event.device, seconds=event.load_seconds)

    async def _pass_on(self, event: Event) -> None:
        if self._listener is not None:
            # Closed: the render was given up, and what it still says is nobody's business.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._listener.send(event)

    async def _tell(self, command: Load | Render | Cancel) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise RenderCrashed("The render process ended unexpectedly.")
        # Broken: it just died; whoever listens to it is told by its end.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.send(command.encode())

    async def _stop(self, job_id: str, events: ObjectReceiveStream[Event]) -> None:
        """Between two steps if it listens, by SIGTERM if not, by SIGKILL at last."""
        process = self._process
        if process is None:
            return
        with suppress(RenderCrashed):
            await self._tell(Cancel(job_id=job_id))
        for escalate in (process.terminate, process.kill):
            with anyio.move_on_after(self._grace_seconds):
                async for event in events:
                    if not isinstance(event, Progress | LogLine):
                        return
                return
            log.warning("render does not stop", escalation=escalate.__name__)
            with suppress(ProcessLookupError):
                escalate()
        await process.wait()


def supervisor_of(config: Config, *, command: Sequence[str] = RENDER_PROCESS) -> Supervisor:
    """A supervisor for the model the configuration names."""
    return Supervisor(
        Load(
            model=config.render.model,
            model_dir=config.model_dir,
            device=config.render.device,
            dtype=config.render.dtype,
        ),
        load_timeout_seconds=config.worker.load_timeout_seconds,
        grace_seconds=config.worker.grace_seconds,
        command=command,
    )


async def _events(stream: ByteReceiveStream) -> AsyncGenerator[Event, None]:
    """The events of a process until its stdout ends; a broken line ends it, too."""
    lines = BufferedByteReceiveStream(stream)
    while True:
        try:
            line = await lines.receive_until(b"\n", _MAX_LINE_BYTES)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError):
            return
        except anyio.DelimiterNotFound:
            log.exception("render process sent an endless line")
            return
        try:
            yield parse_event(line)
        except ValidationError:
            log.exception("render process sent what is no event")
            return


def _result(event: Event) -> Rendered:
    match event:
        case Rendered():
            return event
        case RenderCanceled():
            raise RenderStopped
        case RenderFailed():
            raise _render_error(event)
        case _:
            raise RenderCrashed("The render process answered out of turn.")


def _render_error(event: RenderFailed) -> PromptreelError:
    for error_class in _RENDER_ERRORS:
        if error_class.code == event.code:
            return error_class(event.message)
    return RenderCrashed(event.message)
