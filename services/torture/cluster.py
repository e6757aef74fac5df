"""The programs under torture as processes: they are hurt here, and started again when they die."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from services.torture.plan import API, WORKERS
from services.torture.tripwires import Tripwires

# In the environment of every process of a session, its children's children included.
MARK = "PROMPTREEL_TORTURE"

_RESTART_SECONDS = 0.3
_POLL_SECONDS = 0.05
# What Cloud Run gives a container that it stops.
STOP_SECONDS = 10.0


class Member:
    """One program of the cluster, over all its lives."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.wires = Tripwires(folder / "trips" / name)
        self.log_file = folder / f"{name}.log"
        self.starts = 0
        self._command = [sys.executable, *arguments, "--trips", str(folder / "trips" / name)]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.starts += 1
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def family(self) -> list[psutil.Process]:
        """The process and its children, which may end while they are looked at."""
        if self._process is None:
            return []
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def server(self) -> list[psutil.Process]:
        """The process that does the work: the API's is a child of the one that was started."""
        family = self.family()
        return family[1:2] or family[:1] if self.name == API else family[:1]

    def render_process(self) -> list[psutil.Process]:
        return self.family()[1:2]

    def terminate(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        for process in reversed(self.family()):
            send(process, signal.SIGKILL)
        self.wait(STOP_SECONDS)


class Cluster:
    """One API and two workers. Use as a context: on leaving, no process is left."""

    def __init__(
        self,
        *,
        folder: Path,
        config_file: Path,
        port: int,
        environment: Mapping[str, str],
        clock_skew_seconds: Mapping[str, float],
        real_renders: bool,
    ) -> None:
        self.mark = str(folder)
        shared = {
            **os.environ,
            **environment,
            "PROMPTREEL_CONFIG": str(config_file),
            "PROMPTREEL_LOG_FORMAT": "json",
            MARK: self.mark,
        }
        api = ["-m", "services.torture.api", "--port", str(port)]
        self.members = {API: Member(API, api, folder=folder, environment=shared)}
        for name in WORKERS:
            skew = str(clock_skew_seconds[name])
            worker = ["-m", "services.torture.worker", "--name", name]
            worker += ["--clock-skew-seconds", skew, *(["--real"] if real_renders else [])]
            self.members[name] = Member(name, worker, folder=folder, environment=shared)
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper")

    def __enter__(self) -> Self:
        for member in self.members.values():
            member.start()
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._keeper.join()
        for process in self.living():
            send(process, signal.SIGCONT)
        for member in self.members.values():
            member.kill()
        for process in self.living():
            send(process, signal.SIGKILL)

    def stop(self) -> list[str]:
        """Ask every program to stop; the names of those that did not do so in time."""
        self._leaving.set()
        self._keeper.join()
        for member in self.members.values():
            member.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        return [
            member.name
            for member in self.members.values()
            if not member.wait(max(deadline - time.monotonic(), 0.1))
        ]

    def living(self) -> Iterator[psutil.Process]:
        """Every process that came from this cluster, whoever its parent is now."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get(MARK) == self.mark:
                    yield process

    def _keep(self) -> None:
        """Start again what has died, as a platform would."""
        while not self._leaving.wait(_POLL_SECONDS):
            for member in self.members.values():
                if not member.is_alive():
                    time.sleep(_RESTART_SECONDS)
                    member.start()


def send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def limit_file_size(process: psutil.Process, size_bytes: int | None) -> None:
    """Have the kernel refuse what the process writes beyond a size; None: as before.

    No disk is filled, but the process meets a real error from the kernel at every kind of write.
    """
    soft = resource.RLIM_INFINITY if size_bytes is None else size_bytes
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        allowed = hard if soft == resource.RLIM_INFINITY else soft
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (allowed, hard))


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(_POLL_SECONDS)
    return condition()
