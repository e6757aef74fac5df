"""What is done of a video that is not: files in the work directory, found again by the next attempt."""

from pathlib import Path

from services.gpu_worker.pipeline.watcher import Watcher

PLAN = "plan.json"
KEYFRAMES, SEGMENTS = "keyframes", "segments"  # folders


def keyframe(number: int) -> str:
    """The picture that a segment begins with; segments count from 1."""
    return f"{KEYFRAMES}/{number}.png"


def segment(number: int) -> str:
    return f"{SEGMENTS}/{number}.mp4"


def clip(number: int) -> str:
    """A segment as it came from elsewhere: in its maker's size, perhaps longer than is shown."""
    return f"{SEGMENTS}/{number}_clip.mp4"


def last_frame(number: int) -> str:
    """The picture that a segment ended with, before it was encoded."""
    return f"{SEGMENTS}/{number}_last.png"


def operation(number: int, order: int) -> str:
    """The name of what was ordered elsewhere; a segment that got lost is ordered again."""
    return f"{SEGMENTS}/{number}_order_{order}.txt"


class Parts:
    """Each is whole or not there. Those worth keeping are told to the watcher."""

    def __init__(self, folder: Path, watcher: Watcher, *, worth_keeping: bool) -> None:
        self._folder = folder
        self._watcher = watcher
        self._worth_keeping = worth_keeping

    def has(self, name: str) -> bool:
        return (self._folder / name).is_file()

    def path(self, name: str) -> Path:
        """Where it is, or is to be written."""
        path = self._folder / name
        if path.parent != self._folder:
            path.parent.mkdir(exist_ok=True)
        return path

    def made(self, name: str, *, always: bool = False) -> None:
        """To be called when it is whole. With ``always`` it is worth keeping of any video."""
        if self._worth_keeping or always:
            self._watcher.part_made(name)
