"""The API, its workers and the courier as child processes: started together, restarted when they die, stopped together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import IO, Self

import httpx

from services.cli.exits import CommandFailed
from shared.errors import EXIT_CONFIGURATION
from shared.settings import LogFormat

_POLL_SECONDS = 0.2
_STOP_SECONDS = 8.0
_RESTART_SECONDS_MIN = 0.5
_RESTART_SECONDS_MAX = 15.0
# A child that lived this long has earned a quick restart.
_HEALTHY_SECONDS = 30.0


class ServiceFailed(CommandFailed):
    """A child cannot run; its own words are in the log."""


@dataclass
class Child:
    """One program of the service, over all its lives."""

    name: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = field(default=0.0)


class Service:
    """All services on this machine. Use as a context: on leaving, they have ended."""

    def __init__(
        self,
        *,
        config_file: Path | None,
        host: str,
        port: int,
        log_format: LogFormat,
        backends: Sequence[str] = ("wan2.1",),
        output: IO[bytes] | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        on_restart: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.url = local_url(host, port)
        self._environment = {**_environment(config_file, log_format), **environment}
        self._output = output
        self._on_restart = on_restart
        python = sys.executable
        api = (python, "-m", "services.api.main", "--port", str(port), "--exit-with-parent")
        courier = (python, "-m", "services.courier.pull", "--exit-with-parent")
        worker = (python, "-m", "services.gpu_worker.pull", "--exit-with-parent", "--backend")
        self.children = (
            Child("api", api),
            Child("courier", courier),
            *(Child(f"{backend} worker", (*worker, backend)) for backend in backends),
        )

    def __enter__(self) -> Self:
        for child in self.children:
            self._start(child)
        return self

    def __exit__(self, *_: object) -> None:
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for process in running:
            try:
                process.wait(timeout=max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_ready(self, *, timeout_seconds: float) -> None:
        """Until the API answers. Raises ``ServiceFailed`` when it does not in time."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            self.tend()
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/healthz", timeout=1.0).is_success:
                    return
            time.sleep(_POLL_SECONDS)
        raise ServiceFailed(f"the API did not answer within {timeout_seconds:.0f} seconds")

    def tend(self) -> None:
        """Restart what died, later and later. Raises ``ServiceFailed`` for what cannot run."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.restart_at:
                    self._on_restart(child.name)
                    self._start(child)
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code == EXIT_CONFIGURATION:
                raise ServiceFailed(f"the {child.name} cannot run with this configuration")
            lived = now - child.started_at
            child.failures = 0 if lived > _HEALTHY_SECONDS else child.failures + 1
            pause = min(_RESTART_SECONDS_MIN * 2**child.failures, _RESTART_SECONDS_MAX)
            child.process, child.restart_at = None, now + pause

    def run(self) -> None:
        """Tend the children until interrupted."""
        while True:
            self.tend()
            time.sleep(_POLL_SECONDS)

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(  # noqa: S603 - our own modules
            child.command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            # Ctrl-C goes to us; we stop the children in order.
            start_new_session=True,
        )
        child.started_at = time.monotonic()


def local_url(host: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound


def port_is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _environment(config_file: Path | None, log_format: LogFormat) -> Mapping[str, str]:
    environment = {**os.environ, "PROMPTREEL_LOG_FORMAT": log_format}
    if config_file is not None:
        environment["PROMPTREEL_CONFIG"] = str(config_file.resolve())
    return environment
