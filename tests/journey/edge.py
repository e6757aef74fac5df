"""A real Angie before a real API, configured by deploy/edge/ but for ports, places and who it trusts."""

import getpass
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.journey.installation import ROOT, free_port

HERE = ROOT / "deploy/edge"
NAME = "localhost"  # whom callers think they talk to
INTERNAL_NAME = "promptreel.internal"  # whom the edge thinks it talks to


@dataclass
class Edge:
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"

    @property
    def log(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]


def angie() -> str | None:
    """The program, if it is here."""
    return os.environ.get("ANGIE") or shutil.which("angie")


def make_certificates(folder: Path) -> Path:
    program = HERE / "make_certificates.sh"
    subprocess.run([program, folder, NAME, INTERNAL_NAME], check=True, stdout=subprocess.DEVNULL)
    return folder


def configure(folder: Path, certificates: Path, *, plain: int, secure: int, upstream: str) -> Edge:
    """The files of deploy/edge/, changed as README.md there says, and to run as anybody."""
    port = free_port()
    changes = {
        "worker_processes auto;": "worker_processes 1;",
        "/var/log/angie/": f"{folder}/",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen 443 quic reuseport;": f"listen 127.0.0.1:{port} quic reuseport;",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "    listen [::]:80;\n": "",
        "        listen [::]:443 quic reuseport;\n": "",
        "        listen [::]:443 ssl;\n": "",
        "reel.example": NAME,
        "/etc/promptreel/edge/": f"{certificates}/",
        "127.0.0.1:8000;": f"127.0.0.1:{plain};",
        "127.0.0.1:8443;": f"127.0.0.1:{secure};",
        "include upstream_http1.conf;": f"include upstream_{upstream}.conf;",
    }
    for file in HERE.glob("*.conf"):
        text = file.read_text()
        for written, here in changes.items():
            text = text.replace(written, here)
        (folder / file.name).write_text(text)
    (folder / "logs").mkdir()
    return Edge(folder, port)


@contextmanager
def running_edge(program: str, edge: Edge) -> Iterator[Edge]:
    here = f"daemon off; user {getpass.getuser()};"  # else root's workers are nobody's, who may not write here
    command = [program, "-p", edge.folder, "-c", edge.folder / "angie.conf", "-g", here]
    with (edge.folder / "angie.out").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            assert process.poll() is None, (edge.folder / "angie.out").read_text()
            try:
                httpx.get(f"http://127.0.0.1:{edge.port}")  # to be told that it speaks TLS
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                break
        yield edge
    finally:
        process.terminate()
        process.wait(20)
