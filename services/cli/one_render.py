"""One render in a process of its own, watched in the terminal; Ctrl-C stops it and what it has started."""

import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from rich.console import Console

from services.cli.phase_bars import PhaseBars
from services.gpu_worker.protocol import LogLine, Progress, Render, Rendered, RenderNews
from services.gpu_worker.render_outcome import RenderStopped
from services.gpu_worker.supervisor import Supervisor, supervisor_of
from shared.catalog import find_model
from shared.config import Config
from shared.errors import ModelUnavailable, PromptreelError, RenderCrashed, RenderTimedOut


async def render_here(config: Config, command: Render, console: Console) -> Rendered:
    """Raises what the render raises, and ``KeyboardInterrupt`` when it was stopped meanwhile."""
    with tempfile.TemporaryDirectory() as scratch, PhaseBars(console) as bars:
        supervisor = supervisor_of(config, scratch=Path(scratch))
        render = _OneRender(supervisor, command, bars)
        limit = find_model(config.worker_model).max_render_seconds * command.segments
        return await render.run(limit_seconds=limit)


class _OneRender:
    def __init__(self, supervisor: Supervisor, command: Render, bars: PhaseBars) -> None:
        self._supervisor = supervisor
        self._command = command
        self._bars = bars
        self._rendering = anyio.CancelScope()
        self._error: PromptreelError | KeyboardInterrupt | None = None

    async def run(self, *, limit_seconds: float) -> Rendered:
        rendered: Rendered | None = None
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._hear, signals)
                tasks.start_soon(self._keep_alive)
                with self._rendering:
                    rendered = await self._render(limit_seconds)
                self._supervisor.end()
                tasks.cancel_scope.cancel()
        if rendered is None:
            raise self._error or RenderCrashed("The render ended without a result.")
        return rendered

    async def _render(self, limit_seconds: float) -> Rendered | None:
        try:
            with anyio.fail_after(limit_seconds):
                return await self._supervisor.render(self._command, self._listen)
        except PromptreelError as error:
            self._stop(error)
        except RenderStopped:
            self._stop(RenderCrashed("The render stopped without being asked to."))
        except TimeoutError:
            self._stop(RenderTimedOut(f"The render took longer than {limit_seconds:.0f} seconds."))
        return None

    def _listen(self, news: RenderNews) -> None:
        match news:
            case Progress():
                self._bars.show(news.phase, news.fraction)
            case LogLine():
                self._bars.say(news.text)

    async def _keep_alive(self) -> None:
        """The render process; one that cannot load its model ends the render."""
        try:
            await self._supervisor.run()
        except ModelUnavailable as error:
            self._stop(error)

    async def _hear(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for _ in signals:
            self._stop(KeyboardInterrupt())

    def _stop(self, reason: PromptreelError | KeyboardInterrupt) -> None:
        """The first reason counts."""
        self._error = self._error or reason
        self._rendering.cancel()
