"""A Redis server for the peers that need one: this machine's, else Debian's package, unpacked into a folder.

It runs as it comes, with snapshots after a while and no append-only file, or it syncs every change to the
disk before it answers.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers.environments import CannotSetUp, hide_from_git

# Debian's redis-server and the libraries of its own that a slim machine lacks.
_PACKAGES = (
    "redis-server",
    "redis-tools",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "lua-bitop",
    "lua-cjson",
)


@dataclass(frozen=True)
class RedisServer:
    program: Path
    version: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, port: int, folder: Path, *, syncs: bool) -> Sequence[str]:
        """On this machine only; what it saves is in the folder."""
        options = {"--bind": "127.0.0.1", "--port": str(port), "--dir": str(folder)}
        if syncs:
            options |= {"--appendonly": "yes", "--appendfsync": "always"}
        return [str(self.program), *(word for option in options.items() for word in option)]


def find_redis(folder: Path) -> RedisServer:
    """Raises ``CannotSetUp``."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return _checked(Path(installed), {})
    unpacked = folder / "redis"
    program = unpacked / "usr" / "bin" / "redis-server"
    # A link to redis-check-rdb, which is the same program by another name.
    if not os.path.lexists(program):
        hide_from_git(folder)
        _unpack(unpacked)
    libraries = unpacked / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    return _checked(program, {"LD_LIBRARY_PATH": str(libraries)})


def _unpack(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _download(folder)
        for package in sorted(folder.glob("*.deb")):
            subprocess.run(
                ["/usr/bin/dpkg", "-x", package, folder], check=True, capture_output=True
            )
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder)
        reason = "there is no redis-server on this machine, and no package of Debian's to be had"
        raise CannotSetUp(f"{reason}; install one, or run apt-get update first") from error


def _download(folder: Path) -> None:
    subprocess.run(
        ["/usr/bin/apt-get", "download", *_PACKAGES], cwd=folder, check=True, capture_output=True
    )


def _checked(program: Path, environment: Mapping[str, str]) -> RedisServer:
    """One that starts. Raises ``CannotSetUp``."""
    try:
        said = subprocess.run(
            [program, "--version"],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotSetUp(f"{program} does not start") from error
    # It says so: Redis server v=7.0.15 sha=…
    version = said.partition("v=")[2].split()[0]
    return RedisServer(program, version, environment)
