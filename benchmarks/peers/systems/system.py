"""What the harness must know of a service to start it."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from peers.programs import Program
from peers.redis_server import RedisServer, find_redis
from peers.serving import noop

SERVING = Path(noop.__file__).parent


@dataclass(frozen=True)
class Tools:
    """What several services are started with, found when it is asked for."""

    environments: Path
    clip: Path

    @cached_property
    def redis(self) -> RedisServer:
        """Raises ``CannotSetUp``."""
        return find_redis(self.environments)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one installation lives, from nothing: no other has been there before."""

    folder: Path
    port: int
    store_port: int
    delay_seconds: float
    tools: Tools

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    @property
    def environment(self) -> Mapping[str, str]:
        """Of every process of the installation: the machine's, without what is set for our own Python."""
        videos = self.folder / "videos"
        videos.mkdir(exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
        return inherited | {
            noop.CLIP: str(self.tools.clip),
            noop.DELAY_SECONDS: str(self.delay_seconds),
            noop.LEDGER: str(self.ledger),
            noop.OUTPUT: str(videos),
            "PYTHONPATH": str(SERVING),
            "PYTHONUNBUFFERED": "1",
            "HOME": str(self.folder),  # where some keep caches and ids
        }


def activated(python: Path) -> Mapping[str, str]:
    """What `activate` sets: some start "python3", and mean their own."""
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "VIRTUAL_ENV": str(python.parents[1])}


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """Ready to be started."""

    programs: Sequence[Program]
    key: str = ""  # that its clients must show


@dataclass(frozen=True, kw_only=True)
class System:
    name: str
    title: str
    dialect: str
    set_up: Callable[[Place], AbstractContextManager[SetUp]]  # raises ``CannotSetUp``
    versions: Mapping[str, str]  # of what is compared
    keeps: str  # jobs, where
    set_as: str  # and on whose advice
    keeps_what_it_accepts: bool = False  # also when the power goes
    lacks: Mapping[str, str] = field(
        default_factory=dict
    )  # by the beginning of a column's name: why
