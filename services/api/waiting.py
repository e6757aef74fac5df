"""Where synchronous callers wait for their job without keeping everybody else out."""

import threading
import time

from shared.job import Job
from shared.lifecycle import Lifecycle

_SLICE_SECONDS = 0.5


class WaitingRoom:
    """A limited number of seats; who finds none, or waits too long, gets the job as it is."""

    def __init__(self, lifecycle: Lifecycle, *, seats: int, wait_seconds: float) -> None:
        self._lifecycle = lifecycle
        self._seats = threading.BoundedSemaphore(seats)
        self._wait_seconds = wait_seconds
        self._closed = threading.Event()

    def wait(self, job: Job) -> Job:
        """The job once it is terminal, or as it is when waiting ends."""
        if not self._seats.acquire(blocking=False):
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
            self._seats.release()

    def close(self) -> None:
        """Everybody gets up at once: the server is about to stop, the jobs go on."""
        self._closed.set()


def seats_for(threads: int) -> int:
    """A quarter of the threads is never waited on, so that polls and health checks get through."""
    return max(1, threads * 3 // 4)
