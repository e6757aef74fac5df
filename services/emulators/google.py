"""Google's Pub/Sub and Firestore emulators, started directly with java and stopped by us.

The `gcloud … emulators start` wrapper leaves orphans. Both listen on 127.0.0.1 and keep everything in
memory.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from shared.errors import ConfigurationError

_START_SECONDS = 60.0
_POLL_SECONDS = 0.1

_FIRESTORE_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"


def why_not_installed() -> str | None:
    """What is missing to start the emulators; None when nothing is."""
    if shutil.which("java") is None:
        return "java is not installed"
    platform = _platform()
    if platform is None:
        return "the Google Cloud CLI is not installed"
    for part in ("pubsub-emulator", "cloud-firestore-emulator"):
        if not (platform / part).is_dir():
            return f"the Google Cloud CLI has no {part} component"
    return None


@contextmanager
def pubsub_emulator() -> Iterator[str]:
    """A running Pub/Sub emulator's ``host:port``."""
    jar = next((_installed() / "pubsub-emulator" / "lib").glob("cloud-pubsub-emulator-*-all.jar"))
    with _running(["java", "-jar", str(jar)]) as address:
        yield address


@contextmanager
def firestore_emulator() -> Iterator[str]:
    """A running Firestore emulator's ``host:port``."""
    jar = _installed() / "cloud-firestore-emulator" / "cloud-firestore-emulator.jar"
    with _running(["java", "-cp", str(jar), _FIRESTORE_MAIN, "start"]) as address:
        yield address


@contextmanager
def _running(command: list[str]) -> Iterator[str]:
    port = _free_port()
    # setpriv: java ends with us even if we are killed.
    keeper = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    process = subprocess.Popen(  # noqa: S603 - Google's own jars
        [*keeper, *command, "--host=127.0.0.1", f"--port={port}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_it_answers(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/", timeout=1.0).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(_POLL_SECONDS)
    raise ConfigurationError(None, [("emulators", "an emulator did not start")])


def _installed() -> Path:
    reason, platform = why_not_installed(), _platform()
    if reason is not None or platform is None:
        raise ConfigurationError(None, [("emulators", f"{reason}; install it first")])
    return platform


def _platform() -> Path | None:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    platform = Path(gcloud).resolve().parents[1] / "platform"
    return platform if platform.is_dir() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
