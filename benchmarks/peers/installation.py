"""One service, running: asked by the load generator, looked at by the harness."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from peers.dialects import Dialect, dialect_of
from peers.programs import Programs
from peers.systems.system import Place, System, Tools

_BENCHMARKS = Path(__file__).parents[1]
_START_SECONDS = 90.0
_PROBE_SECONDS = 0.02
_REQUEST_SECONDS = 30.0
# For the load generator to start, beyond what it was told to do.
_LOAD_MARGIN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Installation:
    system: System
    place: Place
    programs: Programs
    key: str
    callback_port: int
    start_seconds: float  # from the first process to the first accepted job

    @cached_property
    def dialect(self) -> Dialect:
        return dialect_of(self.system.dialect, key=self.key)

    def load(self, task: str, *, seconds: float, **told: object) -> dict[str, Any]:
        """What the load generator answers. ``seconds``: how long the task goes on, at most."""
        process = self.begin_load(task, seconds=seconds, **told)
        return self.end_load(process, seconds=seconds)

    def begin_load(self, task: str, **told: object) -> "subprocess.Popen[str]":
        """Runs beside whatever the harness does meanwhile."""
        order = {
            "task": task,
            "dialect": self.system.dialect,
            "port": self.place.port,
            "key": self.key,
            "callback_url": f"http://127.0.0.1:{self.callback_port}/",
            "callback_port": self.callback_port,
            **told,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "peers.load"],
            cwd=_BENCHMARKS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        json.dump(order, process.stdin)
        process.stdin.close()
        process.stdin = None  # `communicate` would close it once more
        return process

    def end_load(self, process: "subprocess.Popen[str]", *, seconds: float) -> dict[str, Any]:
        try:
            said, complaint = process.communicate(timeout=seconds + _LOAD_MARGIN_SECONDS)
        finally:
            process.kill()
            process.wait()
        if process.returncode != 0:
            why = complaint.strip().splitlines()[-1]
            raise LoadFailed(f"the load generator failed: {why}; {self.programs.last_words()}")
        answer: dict[str, Any] = json.loads(said)
        return answer


class LoadFailed(Exception):
    """The service did not do what it was asked to, or the generator is wrong."""


@contextmanager
def running(
    system: System, tools: Tools, folder: Path, *, delay_seconds: float
) -> Iterator[Installation]:
    """The service started from nothing, its first job accepted. Raises ``CannotSetUp``."""
    folder.mkdir(parents=True)
    port, store_port, callback_port = free_ports(3)
    place = Place(
        folder=folder,
        port=port,
        store_port=store_port,
        delay_seconds=delay_seconds,
        tools=tools,
    )
    with system.set_up(place) as set_up:
        programs = Programs(set_up.programs, folder=folder, environment=place.environment)
        with programs:
            began = time.monotonic()
            programs.start("server", "helper", "worker")
            dialect = dialect_of(system.dialect, key=set_up.key)
            try:
                wait_until_accepted(dialect, port, prompt="first", seconds=_START_SECONDS)
            except LoadFailed as error:
                raise LoadFailed(f"{error}; {programs.last_words()}") from error
            # A reply that is the video has waited for it.
            waited = delay_seconds if dialect.answers == "held" else 0.0
            yield Installation(
                system=system,
                place=place,
                programs=programs,
                key=set_up.key,
                callback_port=callback_port,
                start_seconds=time.monotonic() - began - waited,
            )


def wait_until_accepted(dialect: Dialect, port: int, *, prompt: str, seconds: float) -> None:
    """Ask for a job until it is accepted. Raises ``LoadFailed`` with what was said instead."""
    request = dialect.submit(prompt)
    deadline = time.monotonic() + seconds
    said = "nothing"
    while time.monotonic() < deadline:
        with closing(HTTPConnection("127.0.0.1", port, timeout=_REQUEST_SECONDS)) as http:
            try:
                http.request(request.method, request.path, request.body, dict(request.headers))
                reply = http.getresponse()
                body = reply.read()
            except (OSError, HTTPException):
                time.sleep(_PROBE_SECONDS)
                continue
        if dialect.accepted(reply.status, body) is not None:
            return
        said = f"{reply.status} {body[:200].decode(errors='replace')}"
        time.sleep(_PROBE_SECONDS)
    raise LoadFailed(f"no job is accepted: {said}")


def free_ports(count: int) -> list[int]:
    """All different: each is held until the last is found."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
