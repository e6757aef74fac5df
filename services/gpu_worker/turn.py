"""The device is for one job at a time."""

from anyio.abc import TaskStatus


class Turn:
    """A job's turn on the device; the next one's comes when it is over."""

    def __init__(self, status: TaskStatus[None]) -> None:
        self._status = status
        self._is_over = False

    def end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._status.started()
