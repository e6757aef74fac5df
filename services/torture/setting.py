"""Where a session takes place: a folder, a configuration with short leases, a cluster, perhaps a cloud."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from services.api.keys.sources import KeyFile, create_key
from services.emulators.cloud import Cloud, emulated_cloud
from services.torture.cluster import Cluster, wait_until
from services.torture.plan import Plan
from services.torture.tormentor import OWNER
from shared.config import load_config
from shared.lifecycle import utc_now
from shared.wiring import Wiring, wire

LEASE_SECONDS = 4.0

_START_SECONDS = 60.0


class TortureFailed(Exception):
    """The session could not be held; nothing is said about the invariants."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a session is to be held with."""

    folder: Path
    port: int
    in_cloud: bool
    real_model_dir: Path | None  # None: a stand-in renders, without a model

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything running and answering."""

    cluster: Cluster
    cloud: Cloud | None
    wiring: Wiring  # the session's own eyes on the stores
    key: str  # the clients' API key


@contextmanager
def set_up(place: Place, plan: Plan) -> Iterator[Setting]:
    """Start everything and wait until it answers. Raises ``TortureFailed``."""
    config_file = place.folder / "promptreel.yaml"
    config_file.write_text(yaml.safe_dump(_settings(place), sort_keys=False), encoding="utf-8")
    config = load_config(config_file)
    key = create_key(KeyFile(config.server.key_file), owner=OWNER, now=utc_now())
    with ExitStack() as running:
        cloud: Cloud | None = None
        if place.in_cloud:
            cloud = running.enter_context(emulated_cloud(config, place.folder / "cloud"))
            running.enter_context(cloud.spoken_to())
            config_file = cloud.config_file
        wiring = wire(load_config(config_file))
        running.callback(wiring.close)
        cluster = Cluster(
            folder=place.folder,
            config_file=config_file,
            port=place.port,
            environment=cloud.environment if cloud else {},
            clock_skew_seconds=plan.clock_skew_seconds,
            real_renders=place.real_model_dir is not None,
        )
        running.enter_context(cluster)
        if not wait_until(lambda: _is_ready(place.url), seconds=_START_SECONDS):
            raise TortureFailed(f"the API and its workers did not start; see {place.folder}")
        yield Setting(cluster=cluster, cloud=cloud, wiring=wiring, key=key)


def _is_ready(url: str) -> bool:
    try:
        health = httpx.get(f"{url}/health", timeout=1.0).json()
    except (httpx.HTTPError, ValueError):
        return False
    return bool(health.get("model_loaded"))


def _settings(place: Place) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "data_dir": "state",
        "server": {"port": place.port},
        "render": {"model": "wan2.1-demo", "duration_seconds": 1, "resolution": "240p"},
        "worker": {
            "lease_seconds": LEASE_SECONDS,
            "heartbeat_seconds": 1.0,
            "grace_seconds": 0.5,
            "sweep_seconds": 0.5,
            # A healthy job should not fail because it was hurt three times in a row.
            "max_attempts": 6,
            "metrics_port": None,
        },
        "queue": {
            "visibility_seconds": 5.0,
            "backoff_min_seconds": 0.2,
            "backoff_max_seconds": 2.0,
            "max_deliveries": 100,
        },
    }
    if place.real_model_dir is None:
        settings["worker"]["memory_limit_mb"] = 256  # what a glutton soon reaches
    else:
        settings["models"] = {"wan2.1-demo": {"dir": str(place.real_model_dir)}}
    return settings
