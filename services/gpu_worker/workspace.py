"""A worker's scratch folders: one a job, gone after it, gone too when the worker was killed."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_workspace(
    root: Path, *, instance: str, gone: Callable[[str, str], None] = lambda _worker, _job_id: None
) -> Iterator[Path]:
    """This worker's own folder under ``root``; what dead workers left there is removed first.

    A worker holds a lock on its folder as long as it lives, so the living are told from the dead
    without asking who has which process id. ``gone`` is told of each job that a dead one was at.
    """
    root.mkdir(parents=True, exist_ok=True)
    _remove_the_dead(root, gone)
    folder = root / instance
    folder.mkdir(exist_ok=True)
    with (root / f"{instance}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


@contextmanager
def job_folder(workspace: Path, job_id: str) -> Iterator[Path]:
    """An empty folder for one attempt, removed whatever happens in it."""
    folder = workspace / job_id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_the_dead(root: Path, gone: Callable[[str, str], None]) -> None:
    for lock_file in root.glob("*.lock"):
        with lock_file.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # Its worker lives.
            folder = lock_file.with_suffix("")
            for job in folder.glob("*/"):
                gone(folder.name, job.name)
            shutil.rmtree(folder, ignore_errors=True)
            lock_file.unlink(missing_ok=True)
