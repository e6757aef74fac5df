"""The three ports to the outside: where jobs are kept, what wakes workers, where files go.

Each has a ``local`` and a ``gcp`` adapter that promise the same. All methods block; asynchronous
callers run them in a thread. All methods are safe to call from many threads.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from shared.admission import NO_LIMITS, AdmissionLimits
from shared.job import Job, JobKind, JobStatus
from shared.messages import Message
from shared.webhook import WebhookEndpoint


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """The outcome of ``admit``: a new job, or the one an Idempotency-Key had made before."""

    job: Job
    created: bool


@dataclass(frozen=True, kw_only=True)
class JobPage:
    """Some of an owner's jobs, and whether there are more after them."""

    jobs: Sequence[Job]
    has_more: bool


@dataclass(frozen=True)
class LogLine:
    """A line of a job's log, ``2026-01-31T12:00:00Z text``, by the number it has for good."""

    number: int
    text: str


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
        beyond by as many as came in the same instant. A month's limit is exact too.

        The ledger's entries of the job are stored with it, or neither is.
        """

    def get(self, job_id: str) -> Job:
        """Raises ``JobNotFound``."""

    def update(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        """Run a pure transition on the stored job and store what it returns, in one transaction.

        The transition may run more than once. What it raises leaves the job unchanged and is
        passed on. The ledger's new entries of the job are stored with it. Raises ``JobNotFound``.
        """

    def delete(self, job_id: str) -> None:
        """Forget the job and its log, not its entries in the ledger; nothing happens if it is gone."""

    def list(
        self,
        owner: str,
        *,
        kind: JobKind,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
        statuses: Collection[JobStatus] | None = None,
    ) -> JobPage:
        """A page of an owner's jobs of a kind, those that come after the job ``after``.

        In the order in which they were created, and of their ids where that was at one moment: as
        long as a job is there, it is on one page, whatever becomes of others. Only those that have
        one of ``statuses``; ``after`` may have another by now. Raises ``JobNotFound`` for an
        ``after`` that is none of the owner's jobs of the kind.
        """

    def due(self, now: datetime, *, limit: int, statuses: Collection[JobStatus]) -> Sequence[Job]:
        """Jobs with such a status the sweep must look at: ``due_at`` has come; the longest due first."""

    def counts(self) -> Mapping[JobStatus, int]:
        """How many jobs have each status; every status is there."""

    def ended_since(
        self, since: datetime, *, model: str | None = None, owner: str | None = None
    ) -> int:
        """How many jobs of a model or of an owner have ended; not those that nobody ever started.

        Name one of the two.
        """

    def queued_before(self, model: str, moments: Sequence[datetime]) -> Sequence[int]:
        """For each of the moments, how many of a model's jobs wait that were made before it.

        About as fast for many moments as for one. Hundreds may be counted as of a second ago.
        """

    def used(self, owner: str, month: str) -> int:
        """The sum of an owner's entries of a month in the ledger, "2026-01"."""

    def watch(self, job_id: str, *, timeout_seconds: float) -> Iterator[Job]:
        """The job now and after every change, until it is terminal or the time is over."""

    def append_log(self, job_id: str, lines: Sequence[str], *, now: datetime) -> None:
        """Add lines to the job's log; beyond the store's limit, the oldest are dropped."""

    def tail_log(self, job_id: str, *, tail: int) -> Sequence[str]:
        """The newest lines, oldest of them first, each ``2026-01-31T12:00:00Z text``."""

    def read_log(self, job_id: str, *, after: int, limit: int) -> Sequence[LogLine]:
        """The first lines whose number is greater than ``after``, of those that are kept.

        Numbers are at least 1 and grow from line to line; a line that comes later never gets a
        smaller one, so that who reads on after the last number it has misses none.
        """

    def beat(self, beat: WorkerBeat) -> None:
        """Remember a worker's newest heartbeat."""

    def workers(self, *, seen_since: datetime) -> Sequence[WorkerBeat]:
        """The workers whose heartbeat is fresh."""

    def note_key_use(self, key_id: str, at: datetime) -> None:
        """Remember when an API key was used last."""

    def key_uses(self) -> Mapping[str, datetime]:
        """When each key was used last, of those that were, by their ids."""

    def endpoint(self, owner: str) -> WebhookEndpoint | None:
        """Where an owner has asked to be told of the ends of its jobs."""

    def change_endpoint(
        self, owner: str, change: Callable[[WebhookEndpoint | None], WebhookEndpoint]
    ) -> WebhookEndpoint:
        """Store what ``change`` makes of the owner's endpoint, in one transaction; None: it has none.

        It may run more than once. What it raises changes nothing and is passed on.
        """

    def remove_endpoint(self, owner: str) -> None:
        """Nothing happens if there is none."""

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
        """Messages given up after too many deliveries; acknowledge each once seen to.

        At most ``limit`` of each topic.
        """

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

    def keys(self, folder: str) -> Sequence[str]:
        """Of every file below a folder, in their order, and of no other folder's."""

    def fetch(self, key: str, target: Path) -> bool:
        """Write a stored file to ``target``, whole or not at all; False if there is none."""

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
