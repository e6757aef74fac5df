"""Tries a release as a caller does: submit, wait, fetch. Ends with 0 if a video came.

PROMPTREEL_URL=… PROMPTREEL_API_KEY=… python deploy/smoke_test.py [--seconds 900] [--passed FILE]
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from shared.client import Promptreel
from shared.client.errors import ClientError, Conflict
from shared.errors import ConfigurationError
from shared.settings import read_server_settings

PROMPT = "a red circle moving left on a navy background"
# Every MP4 begins with the length of its first box, and that box is of this type.
_BOX = slice(4, 8)
_FIRST_BOX = b"ftyp"


class SmokeTestFailed(Exception):
    """The release does not do what it is for; the message says where it stopped."""


class _TookTooLong(Exception):
    """No ``TimeoutError``: that would be the network's, and tried again."""


def run(reel: Promptreel, *, seconds: float) -> None:
    """Raises ``SmokeTestFailed``; the job does not go on then."""
    started = time.monotonic()
    job_id = reel.submit(PROMPT).id
    print(f"submitted {job_id}", flush=True)
    try:
        with _no_longer_than(seconds):
            job = reel.wait(job_id)
            if job.status != "finished":
                reason = job.error.message if job.error is not None else job.status
                raise SmokeTestFailed(f"{job_id} has not finished: {reason}")
            print(f"finished after {time.monotonic() - started:.0f} s", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                video = reel.download(job_id, Path(folder) / "video.mp4").read_bytes()
    except _TookTooLong:
        with suppress(Conflict):  # it has ended in this very moment
            reel.cancel(job_id)
        raise SmokeTestFailed(f"no video within {seconds:g} s; {job_id} is canceled") from None
    if video[_BOX] != _FIRST_BOX:
        raise SmokeTestFailed(f"what {job_id} has made is no video")
    print(f"fetched {len(video)} bytes", flush=True)


@contextmanager
def _no_longer_than(seconds: float) -> Iterator[None]:
    """Raises ``_TookTooLong`` in whatever the main thread is at."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _TookTooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> int:
    """1 when the release has not passed, 2 when it is not said which one to try."""
    parser = argparse.ArgumentParser(description="Tries a release as a caller does.")
    parser.add_argument("--seconds", type=float, default=900, help="with a cold start: 900")
    parser.add_argument("--passed", type=Path, help="a file to make when it has")
    arguments = parser.parse_args()
    try:
        server = read_server_settings()
        if server is None:
            sys.stderr.write("Set PROMPTREEL_URL and PROMPTREEL_API_KEY.\n")
            return 2
        with Promptreel(server.url, server.api_key) as reel:
            run(reel, seconds=arguments.seconds)
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    except (SmokeTestFailed, ClientError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if arguments.passed is not None:
        arguments.passed.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
