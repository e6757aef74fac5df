"""How far a job is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from shared.client.following import TERMINAL, JobChanged, JobEnded, JobEvent, LogLine
from shared.schemas import JobDetails

_WHOLE = 100
# Without a terminal, a line for each of these.
_STEP_PERCENT = 10
_MINUTE_SECONDS = 60


class JobProgress:
    """Of one job, from now until it has ended."""

    def __init__(self, console: Console, *, logs: bool) -> None:
        self._console = console
        self._logs = logs
        self._phase = ""
        self._said: tuple[object, ...] = ()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(f"{'':<34}", total=_WHOLE, left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, event: JobEvent) -> None:
        match event:
            case LogLine():
                self._phase = event.line.partition(" ")[2]
                if self._logs:
                    self._console.print(event.line, style="dim", markup=False, soft_wrap=True)
                self._bar.update(self._task, description=f"{self._phase:<34.34}")
            case JobChanged() | JobEnded():
                self._show_job(event.job)

    def _show_job(self, job: JobDetails) -> None:
        text = self._text(job)
        left = time_left(job.estimated_seconds_left)
        self._bar.update(
            self._task, completed=job.progress, description=f"{text:<34.34}", left=left
        )
        if self._console.is_terminal:
            return
        news = (job.status, job.queue_position, job.progress // _STEP_PERCENT)
        if news != self._said:
            self._said = news
            line = f"{job.progress:>3}%  {text}{f'  {left}' if left else ''}"
            self._console.print(line, markup=False, soft_wrap=True)

    def _text(self, job: JobDetails) -> str:
        if job.status == "queued":
            where = "" if job.queue_position is None else f", number {job.queue_position}"
            return f"queued{where}"
        return job.status if job.status in TERMINAL else self._phase or job.status


def time_left(seconds: int | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(seconds, _MINUTE_SECONDS)
    return f"{minutes}:{rest:02} left"
