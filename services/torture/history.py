"""What the clients saw and what was done to the processes, in the order in which it happened."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from shared.job import JobStatus

E = TypeVar("E", bound="Event")


@dataclass(frozen=True, kw_only=True)
class Event:
    at: float  # seconds since the epoch


@dataclass(frozen=True, kw_only=True)
class CreateAsked(Event):
    key: str


@dataclass(frozen=True, kw_only=True)
class Accepted(Event):
    """A create was answered with a job. The same key may be answered more than once."""

    key: str
    job_id: str
    manner: str


@dataclass(frozen=True, kw_only=True)
class Seen(Event):
    """A job was polled."""

    job_id: str
    status: str
    progress: int

    @property
    def is_end(self) -> bool:
        return JobStatus(self.status).is_terminal


@dataclass(frozen=True, kw_only=True)
class CancelAsked(Event):
    job_id: str


@dataclass(frozen=True, kw_only=True)
class CancelAnswered(Event):
    job_id: str
    asked_at: float
    status_before: str
    code: int  # the HTTP status


@dataclass(frozen=True, kw_only=True)
class Fetched(Event):
    """A finished job's video was downloaded."""

    job_id: str
    sha256: str
    begins_with: str


@dataclass(frozen=True, kw_only=True)
class Unexpected(Event):
    """An answer that no fault excuses."""

    operation: str
    code: int
    body: str


@dataclass(frozen=True, kw_only=True)
class Hurt(Event):
    """A fault that a process felt."""

    fault: str
    target: str
    killed: bool
    attempts: Mapping[str, int]  # the jobs it held at that moment, and at which attempt each was


class History:
    """Safe to add to from many threads."""

    def __init__(self, file: Path) -> None:
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._file = file.open("w", encoding="utf-8")

    def add(self, event: Event) -> None:
        line = json.dumps({"event": type(event).__name__, **asdict(event)})
        with self._lock:
            self._events.append(event)
            self._file.write(line + "\n")

    def of(self, kind: type[E]) -> Sequence[E]:
        with self._lock:
            return [event for event in self._events if isinstance(event, kind)]

    def close(self) -> None:
        self._file.close()


def now() -> float:
    return time.time()
