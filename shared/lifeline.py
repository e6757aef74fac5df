"""A child process ends with its parent, even when the parent is killed with SIGKILL."""

import os
import threading
import time

_INTERVAL_SECONDS = 0.5


def exit_with_parent(parent: int | None = None) -> None:
    """Watch the parent from a thread and exit as soon as it is gone.

    For children whose server or runtime does not notice by itself: an orphan would keep its port
    and its lease. Whoever is told the parent's process id also notices one that has gone already.
    """
    parent = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_INTERVAL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
