"""What is told of a job while somebody follows it: its changes, its log, its end."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.api.event_source import ALIVE, event
from shared.job import Job
from shared.ports import JobStore
from shared.schemas import JobDetails

_ALIVE_SECONDS = 15.0
_LINES_AT_ONCE = 500


@dataclass(kw_only=True)
class JobStream:
    """The events of one connection. Every line after ``line`` is told once, in order."""

    jobs: Iterable[Job]  # the job whenever it is worth a look, until it is terminal
    store: JobStore
    describe: Callable[[Job], JobDetails]
    line: int  # the number of the last one that was told
    clock: Callable[[], float] = time.monotonic
    _told: JobDetails | None = field(default=None, init=False)
    _told_at: float = field(default=0.0, init=False)

    def events(self) -> Iterator[bytes]:
        seen: Job | None = None
        for job in self.jobs:
            if job != seen:
                seen = job
                yield from self._news(job)
            # After the job was looked at: what a worker says, it says before it ends the job.
            yield from self._lines(job)
            if job.status.is_terminal and self._told is not None:
                yield self._event("end", self._told.model_dump(mode="json"))
            elif self.clock() - self._told_at >= _ALIVE_SECONDS:
                yield from self._sign_of_life(job)

    def _news(self, job: Job) -> Iterator[bytes]:
        """The job, unless it looks as it did when it was told last: a lease is nobody's business."""
        details = self.describe(job)
        if details != self._told:
            self._told = details
            yield self._event("job", details.model_dump(mode="json"))

    def _lines(self, job: Job) -> Iterator[bytes]:
        while lines := self.store.read_log(job.id, after=self.line, limit=_LINES_AT_ONCE):
            for line in lines:
                self.line = line.number
                yield self._event("log", {"line": line.text})
            if len(lines) < _LINES_AT_ONCE:
                return

    def _sign_of_life(self, job: Job) -> Iterator[bytes]:
        """Others may have ended meanwhile, and the job's place in the queue be another."""
        self._told_at = self.clock()
        yield next(self._news(job), ALIVE)

    def _event(self, name: str, data: Mapping[str, object]) -> bytes:
        self._told_at = self.clock()
        # In ASCII: some readers break lines where a text has a line separator.
        return event(name, json.dumps(data, separators=(",", ":")), number=self.line)
