"""The three ports to the outside: where jobs are kept, what wakes workers, where files go.

Each has a ``local`` and a ``gcp`` adapter that promise the same. All methods block; asynchronous
callers run them in a thread. All methods are safe to call from many threads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.admission import NO_LIMITS, AdmissionLimits
from shared.job import Job, JobStatus
from shared.messages import Message


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The outcome of ``admit``: a new job, or the one an Idempotency-Key had made before."""

    job: Job
    created: bool


@dataclass(frozen=True, kw_only=True)
class WorkerBeat:
    """What a worker says about itself every few seconds."""

    instance: str
    model: str
    device: str | None  # known once the model is loaded
    model_loaded: bool
    job_id: str | None  # of the jobs it has in work, the one it has begun last
    seen_at: datetime


class JobStore(Protocol):
    """The truth about jobs. Every method may raise ``StoreUnavailable``."""

    def admit(self, job: Job, limits: AdmissionLimits = NO_LIMITS) -> Admitted:
        """Store a new job; with a known Idempotency-Key of its owner, return the earlier one.

        Raises ``IdempotencyConflict`` when the earlier request was another, and ``TooManyJobs`` when
        a limit is reached, unless the key is known: a retry of what was accepted is never refused.

        All of an owner's jobs count, whatever limits they came with. In flight and by the minute,
        however many admissions with such a limit run at once, no more come in than it allows. Queue
        depths are what was counted at that moment: a store without a lock over all jobs may go
        beyond by as many as came in the same instant.
        """

    def get(self, job_id: str) -> Job:
        """Raises ``JobNotFound``."""

    def update(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        """Run a pure transition on the stored job and store what it returns, in one transaction.

        The transition may run more than once. What it raises leaves the job unchanged and is
        passed on. Raises ``JobNotFound``.
        """

    def delete(self, job_id: str) -> None:
        """Forget the job and its log; nothing happens if it is gone."""

    def list(self, owner: str, *, limit: int, before: datetime | None = None) -> Sequence[Job]:
        """An owner's jobs, newest first, created before a moment."""

    def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        """Jobs the sweep must look at: ``due_at`` has come; the longest due first."""

    def counts(self) -> Mapping[JobStatus, int]:
        """How many jobs have each status; every status is there."""

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        """How many jobs of a model or of an owner have ended; not those that nobody ever started.

        Name one of the two.
        """

    def watch(self, job_id: str, *, timeout_seconds: float) -> Iterator[Job]:
        """The job now and after every change, until it is terminal or the time is over."""

    def append_log(self, job_id: str, lines: Sequence[str], *, now: datetime) -> None:
        """Add lines to the job's log; beyond the store's limit, the oldest are dropped."""

    def tail_log(self, job_id: str, *, tail: int) -> Sequence[str]:
        """The newest lines, oldest of them first, each ``2026-01-31T12:00:00Z text``."""

    def beat(self, beat: WorkerBeat) -> None:
        """Remember a worker's newest heartbeat."""

    def workers(self, *, seen_since: datetime) -> Sequence[WorkerBeat]:
        """The workers whose heartbeat is fresh."""

    def ping(self) -> None:
        """Return if the store answers."""

    def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One delivery of a message; acknowledge or release it by its receipt."""

    message: Message
    receipt: str
    topic: str
    delivery_attempt: int


class MessageQueue(Protocol):
    """What wakes workers: at least once, in no order. May raise ``QueueUnavailable``."""

    def publish(self, topic: str, message: Message) -> None:
        """Returns once the message is durable."""

    def receive(self, topics: Sequence[str], *, wait_seconds: float) -> Delivery | None:
        """The next message, invisible to others until its deadline, or None after the wait.

        A message no code can read is moved to the dead letters and not returned.
        """

    def acknowledge(self, delivery: Delivery) -> None:
        """Done with it: it is not delivered again. A late acknowledgement is ignored."""

    def release(self, delivery: Delivery, *, delay_seconds: float | None = None) -> None:
        """Not done: deliver it again, by default after the queue's own backoff."""

    def extend(self, delivery: Delivery) -> None:
        """Still working on it: push its deadline back."""

    def dead_letters(self, *, limit: int) -> Sequence[Delivery]:
        """Messages given up after too many deliveries; acknowledge each once seen to."""

    def depth(self, topic: str) -> int | None:
        """Messages waiting or in work; None where the queue cannot tell."""

    def ping(self) -> None:
        """Return if the queue answers."""

    def close(self) -> None:
        """Let go of connections."""


class CallerGuard(Protocol):
    """Who may call an endpoint that is not for people."""

    def check(self, authorization: str | None) -> None:
        """Raises ``UntrustedCaller``, or ``CertificatesUnavailable`` when nobody can tell."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file in the artifact store."""

    key: str
    uri: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """Where anyone may fetch a file for a while. ``url`` may be relative to the API."""

    url: str
    expires_at: datetime | None  # None: a public file


class ArtifactStore(Protocol):
    """Where files go. May raise ``ArtifactStoreUnavailable``.

    Keys are relative paths, ``videos/2026-01/job_1/final_video.mp4``; one that would lead out of the
    bucket is a ``ValueError``.
    """

    def put(self, key: str, source: Path, *, content_type: str) -> StoredFile:
        """Store a file once. A file already there under this key stays, and is returned."""

    def link(self, key: str, *, expires_in_seconds: int, now: datetime) -> Link:
        """A signed link to a stored file."""

    def delete(self, key: str) -> None:
        """Remove a file; nothing happens if it is gone."""

    def delete_all(self, folder: str) -> None:
        """Remove every file below a folder, ``videos/2026-01/job_1``, and no other folder's.

        Nothing happens if there is none.
        """

    def close(self) -> None:
        """Let go of connections."""
