"""How a render tells what it does, and learns that nobody wants it any more."""

from typing import Protocol


class RenderCanceled(Exception):
    """Control flow, no error: the watcher wants the render to stop. Raised between steps."""


class Watcher(Protocol):
    """Whoever ordered the render."""

    def progress(
        self, phase: str, fraction: float, *, step: int | None = None, steps: int | None = None
    ) -> None:
        """``fraction`` of the phase is done, 0 to 1; steps count denoising steps."""

    def log(self, text: str) -> None:
        """A line for the job's owner: no prompt, no path."""

    def part_made(self, name: str) -> None:
        """A part is whole in the work directory: from here on it need not be made again."""

    def cancel_requested(self) -> bool: ...


def stop_if_canceled(watcher: Watcher) -> None:
    """Raises ``RenderCanceled``."""
    if watcher.cancel_requested():
        raise RenderCanceled
