"""What becomes of a job, over as many connections as it takes; the half without a network."""

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from shared.client import calls
from shared.client.calls import Call
from shared.client.errors import CannotReach, ClientError, NotThere, Unreadable
from shared.client.patience import Patience
from shared.client.sent_events import EventReader, SentEvent
from shared.schemas import JobDetails

TERMINAL = ("finished", "failed", "canceled")
# The server says that it is alive every 15 seconds.
SILENCE_SECONDS = 45.0
_POLL_SECONDS = 1.0
_RECONNECT_SECONDS = 1.0
# A server may be restarted while somebody watches: about a minute.
_RECONNECTS = 12
_RECONNECTS_SECONDS = 60.0


@dataclass(frozen=True)
class JobChanged:
    job: JobDetails


@dataclass(frozen=True)
class LogLine:
    number: int  # counts from 1; what ``after`` takes
    line: str


@dataclass(frozen=True)
class JobEnded:
    job: JobDetails


JobEvent = JobChanged | LogLine | JobEnded


class _Line(BaseModel):
    line: str


class Following:
    """Told what came; says what it means, and whether and how to go on. No line is doubled."""

    def __init__(self, job_id: str, host: str, *, after: int, first: Patience) -> None:
        self.done = False
        self.polls = False  # where the server cannot tell by itself
        self.pause_seconds = 0.0
        self._job_id = job_id
        self._host = host
        self._after = after
        self._shown: JobDetails | None = None
        self._patience = first
        self._reader = EventReader()

    def connect(self) -> Call[JobDetails]:
        """A new connection: what it sends is read from its beginning."""
        self._reader = EventReader()
        return calls.events(self._job_id, self._after)

    def heard(self, chunk: bytes) -> Iterator[JobEvent]:
        for sent in self._reader.take(chunk):
            if (event := self._understood(sent)) is not None:
                self._got_somewhere()
                yield event

    def polled(self, job: JobDetails) -> Iterator[JobEvent]:
        self._got_somewhere()
        self.pause_seconds = _POLL_SECONDS
        if (changed := self._changed(job)) is not None:
            yield changed
        if job.status in TERMINAL:
            self.done = True
            yield JobEnded(job)

    def closed(self) -> None:
        """The connection is over. Raises ``CannotReach`` if the job is not."""
        if not self.done:
            raise CannotReach(self._host, "the connection ended early")

    def broke(self, error: ClientError) -> None:
        """Decides how to go on. Raises the error when there is no way."""
        if not self.polls and (isinstance(error, (NotThere, Unreadable))):
            # An older server, a proxy that keeps streams back, or no such job: the job itself tells.
            self.polls, self.pause_seconds = True, 0.0
            return
        pause = self._patience.pause_after(error)
        wanted = self._reader.retry_seconds
        self.pause_seconds = max(pause, _RECONNECT_SECONDS if wanted is None else wanted)

    def _understood(self, sent: SentEvent) -> JobEvent | None:
        """None for what is known already, and for what a newer server may send."""
        try:
            match sent.event:
                case "log":
                    line = _Line.model_validate_json(sent.data).line
                    return self._new_line(int(sent.id), line)
                case "job":
                    return self._changed(JobDetails.model_validate_json(sent.data))
                case "end":
                    job = JobDetails.model_validate_json(sent.data)
                    self.done = True
                    return JobEnded(job)
        except (ValidationError, ValueError):
            raise Unreadable(200) from None
        return None

    def _new_line(self, number: int, line: str) -> LogLine | None:
        # Only a line that was heard counts as heard: a connection may break right after the news
        # of the job, whose number may be of lines still to come.
        if number <= self._after:
            return None
        self._after = number
        return LogLine(number, line)

    def _changed(self, job: JobDetails) -> JobChanged | None:
        if job == self._shown:
            return None
        self._shown = job
        return JobChanged(job)

    def _got_somewhere(self) -> None:
        self._patience = Patience(tries=_RECONNECTS, seconds=_RECONNECTS_SECONDS)
