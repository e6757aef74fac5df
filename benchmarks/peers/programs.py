"""The programs that a service is made of: started, kept running as by a supervisor, killed, stopped."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil

from peers.memory import Taken, taken_by

# In the environment of every process of an installation, whoever its parent is now.
_MARK = "PEERS_MARK"
_RESTART_SECONDS = 0.3
_POLL_SECONDS = 0.05
_STOP_SECONDS = 5.0
_START_SECONDS = 20.0

# A helper is neither asked by callers nor does it render.
Role = Literal["server", "worker", "helper", "store"]


@dataclass(frozen=True, kw_only=True)
class Program:
    name: str
    role: Role
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None  # that those after it cannot do without


class Programs:
    """Use as a context: on leaving, no process is left."""

    def __init__(
        self, programs: Sequence[Program], *, folder: Path, environment: Mapping[str, str]
    ) -> None:
        """Their logs are in the folder."""
        self.mark = str(folder)
        self._programs = programs
        self._folder = folder
        self._environment = {**environment, _MARK: self.mark}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._leaving = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def __enter__(self) -> Self:
        try:
            self.start("store")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._leaving.set()
        if self._keeper.is_alive():
            self._keeper.join()
        for process in reversed(self._running.values()):
            with suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(deadline - time.monotonic(), 0.01))
        # Who writes a title over its environment, as Redis does, has no mark; but it is our own child.
        kill([*self.family("server", "worker", "helper", "store"), *self._living()])

    def start(self, *roles: Role) -> None:
        """Those of these roles, in their order."""
        for program in self._programs:
            if program.role in roles:
                self._start(program)

    def supervise(self) -> None:
        """From now on, what ends is started again."""
        self._keeper.start()

    def family(self, *roles: Role) -> list[psutil.Process]:
        """The processes of these roles, with their children."""
        return [
            process
            for program in self._programs
            if program.role in roles
            for process in self._family_of(program)
        ]

    def has(self, role: Role) -> bool:
        return any(program.role == role for program in self._programs)

    def memory(self) -> Sequence[Taken]:
        found: list[Taken] = []
        for program in self._programs:
            found += taken_by(program.name, self._family_of(program))
        return found

    def log_of(self, program: Program) -> Path:
        return self._folder / f"{program.name}.log"

    def last_words(self) -> str:
        """For whoever asks why it does not start."""
        said = []
        for program in self._programs:
            lines = self.log_of(program).read_text(errors="replace").strip().splitlines()
            said.append(f"{program.name}: {lines[-1] if lines else 'said nothing'}")
        return "; ".join(said)

    def _start(self, program: Program) -> None:
        with self.log_of(program).open("ab") as log:
            self._running[program.name] = subprocess.Popen(
                program.command,
                env={**self._environment, **program.environment},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C comes to us; we stop them in order.
                start_new_session=True,
            )
        if program.port is not None:
            _wait_until_open(program.port)

    def _family_of(self, program: Program) -> list[psutil.Process]:
        process = self._running.get(program.name)
        if process is None:
            return []
        try:
            parent = psutil.Process(process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _keep(self) -> None:
        while not self._leaving.wait(_POLL_SECONDS):
            for program in self._programs:
                process = self._running.get(program.name)
                if process is not None and process.poll() is not None:
                    if self._leaving.wait(_RESTART_SECONDS):
                        return
                    self._start(program)

    def _living(self) -> Iterator[psutil.Process]:
        """Every process that came from here, whoever its parent is now."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get(_MARK) == self.mark:
                    yield process


def kill(processes: Sequence[psutil.Process]) -> None:
    """`kill -9` for all of them; gone when this returns."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, timeout=_STOP_SECONDS)


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_POLL_SECONDS)
    raise AssertionError(f"nothing listens at port {port} after {_START_SECONDS:.0f} s")
