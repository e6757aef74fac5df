"""A bar a phase, and the lines of the log above them."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

_PHASES = ("plan", "keyframes", "generation", "stitch")
_WHOLE = 100


class PhaseBars:
    """Of one render, from its first phase to its last."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        for phase in _PHASES:
            self._bars[phase] = self._progress.add_task(phase, total=_WHOLE, start=False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, phase: str, fraction: float) -> None:
        bar = self._bars[phase]
        if not self._progress.tasks[bar].started:
            self._progress.start_task(bar)
        self._progress.update(bar, completed=fraction * _WHOLE)

    def say(self, line: str) -> None:
        self._console.print(line, style="dim", markup=False, highlight=False)
