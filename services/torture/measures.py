"""What a session measures on the way: how fast a cancel works, how soon a killed worker's job is free again."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from services.torture.history import CancelAnswered, History, Hurt, Seen, now
from shared.errors import PromptreelError
from shared.ports import JobStore

_RUNNING = ("started", "progress")


@dataclass(frozen=True)
class Measured:
    """Seconds something took, and when it began, in seconds since the epoch."""

    began_at: float
    seconds: float


def cancels_of_running_jobs(history: History) -> Sequence[Measured]:
    """From a client's request to its first look that found the job canceled."""
    canceled_at: dict[str, float] = {}
    for seen in history.of(Seen):
        if seen.status == "canceled":
            canceled_at.setdefault(seen.job_id, seen.at)
    return [
        Measured(asked.asked_at, canceled_at[asked.job_id] - asked.asked_at)
        for asked in history.of(CancelAnswered)
        if asked.code == HTTPStatus.OK
        and asked.status_before in _RUNNING
        and asked.job_id in canceled_at
    ]


@dataclass
class Recoveries:
    """Watches the jobs of killed workers until each is free for another, or has ended."""

    store: JobStore
    done: list[Measured] = field(default_factory=list)
    _pending: list[tuple[Hurt, str, int]] = field(default_factory=list)
    _heard: int = 0

    def watch(self, history: History) -> None:
        hurts = history.of(Hurt)
        for hurt in hurts[self._heard :]:
            if hurt.killed:
                self._pending += [(hurt, *job) for job in hurt.attempts.items()]
        self._heard = len(hurts)
        for entry in [*self._pending]:
            # A store that does not answer now is asked again soon.
            with suppress(PromptreelError):
                self._look(entry)

    def _look(self, entry: tuple[Hurt, str, int]) -> None:
        hurt, job_id, attempt = entry
        job = self.store.get(job_id)
        if job.lease is None or job.attempt > attempt:
            self._pending.remove(entry)
            self.done.append(Measured(hurt.at, now() - hurt.at))
