"""Where callers wait for their job, or follow it, without keeping everybody else out."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from functools import partial

from shared.job import Job
from shared.lifecycle import Lifecycle

_SLICE_SECONDS = 0.5


class Seat:
    """Somebody's place; leaving it again changes nothing."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free = free
        self._left = threading.Lock()

    def leave(self) -> None:
        if self._left.acquire(blocking=False):
            self._free()


class WaitingRoom:
    """A limited number of seats; who finds none, or waits too long, gets the job as it is."""

    def __init__(
        self,
        lifecycle: Lifecycle,
        *,
        seats: int,
        wait_seconds: float,
        seats_per_owner: int | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._free = seats
        self._seats_per_owner = seats if seats_per_owner is None else seats_per_owner
        self._taken: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._wait_seconds = wait_seconds
        self._closed = threading.Event()

    def wait(self, job: Job) -> Job:
        """The job once it is terminal, or as it is when waiting ends."""
        seat = self.take_seat(job.owner)
        if seat is None:
            return job
        try:
            deadline = time.monotonic() + self._wait_seconds
            while not (job.status.is_terminal or self._closed.is_set()):
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                job = self._lifecycle.wait(job.id, timeout_seconds=min(left, _SLICE_SECONDS))
            return job
        finally:
            seat.leave()

    def take_seat(self, owner: str) -> Seat | None:
        """None if there is none for this owner, or the room is closed. Who gets one leaves it again."""
        with self._counting:
            has_its_share = self._taken[owner] >= self._seats_per_owner
            if self._closed.is_set() or has_its_share or not self._free:
                return None
            self._free -= 1
            self._taken[owner] += 1
        return Seat(partial(self._leave, owner))

    def _leave(self, owner: str) -> None:
        with self._counting:
            self._free += 1
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]

    def follow(self, job_id: str) -> Generator[Job, None, None]:
        """The job now, at every change and twice a second, until it is terminal or the room closes.

        For who has a seat.
        """
        while True:
            for job in self._lifecycle.store.watch(job_id, timeout_seconds=_SLICE_SECONDS):
                yield job
                if job.status.is_terminal or self._closed.is_set():
                    return

    def close(self) -> None:
        """Everybody gets up at once: the server is about to stop, the jobs go on."""
        self._closed.set()


def seats_for(threads: int) -> int:
    """A quarter of the threads is never waited on, so that polls and health checks get through."""
    return max(1, threads * 3 // 4)
