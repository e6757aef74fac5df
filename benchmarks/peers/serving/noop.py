"""The work that is the same for everybody: a fixed small MP4, after a fixed delay.

Imported by each peer's program in its own environment, so it needs nothing but Python. That a render
has started and ended is written into a ledger by the render itself: what a service says of its jobs is
measured against that.
"""

import os
import shutil
import time
from pathlib import Path

# Set by the harness for every process it starts.
CLIP, DELAY_SECONDS, LEDGER, OUTPUT = (
    "PEERS_CLIP",
    "PEERS_DELAY_SECONDS",
    "PEERS_LEDGER",
    "PEERS_OUTPUT",
)


def render(prompt: str, output: Path | None = None) -> Path:
    """The clip in a file, as long after the call as a render would take."""
    file = output or Path(os.environ[OUTPUT]) / f"{prompt}.mp4"
    note("started", prompt)
    time.sleep(float(os.environ[DELAY_SECONDS]))
    shutil.copyfile(os.environ[CLIP], file)
    note("finished", prompt)
    return file


def note(what: str, prompt: str) -> None:
    """A line of the ledger. The clock is the machine's, the same in every process."""
    line = f"{time.monotonic():.6f} {what} {os.getpid()} {prompt}\n"
    # Appended in one write: several processes have the file.
    ledger = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)
