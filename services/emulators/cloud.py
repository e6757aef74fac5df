"""A whole Google Cloud project on this machine: Pub/Sub, Firestore and Cloud Storage, set up and empty."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.emulators.gcs import GcsServer, gcs_server
from services.emulators.google import firestore_emulator, pubsub_emulator
from shared.adapters.gcp.pubsub_topology import PushTarget, Redelivery, create_topology
from shared.config import Config

PROJECT = "demo-promptreel"

# What Pub/Sub allows, emulated or not.
_FEWEST_DELIVERIES, _MOST_DELIVERIES = 5, 100


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """What a process needs to take the emulators for Google."""

    environment: Mapping[str, str]
    config_file: Path
    gcs: GcsServer

    @contextmanager
    def spoken_to(self) -> Iterator[None]:
        """This process takes the emulators for Google, too."""
        with _environment(self.environment):
            yield


@contextmanager
def emulated_cloud(
    config: Config, folder: Path, *, push_endpoint: str | None = None
) -> Iterator[Cloud]:
    """Everything running, its topics and bucket made, and ``config`` rewritten to use it.

    Raises ``ConfigurationError`` when an emulator is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        gcs = running.enter_context(
            gcs_server(data=folder / "gcs", buckets=[config.artifacts.bucket])
        )
        key_file = folder / "service-account.json"
        gcs.write_key_file(key_file)
        environment = {
            "PUBSUB_EMULATOR_HOST": running.enter_context(pubsub_emulator()),
            "FIRESTORE_EMULATOR_HOST": running.enter_context(firestore_emulator()),
            "STORAGE_EMULATOR_HOST": gcs.url,
        }
        with _environment(environment):
            push = PushTarget(endpoint=push_endpoint) if push_endpoint else None
            create_topology(PROJECT, redelivery=_redelivery(config), push=push)
        config_file = folder / "promptreel.yaml"
        settings = _in_the_cloud(config, key_file)
        config_file.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
        yield Cloud(environment=environment, config_file=config_file, gcs=gcs)


def _redelivery(config: Config) -> Redelivery:
    """The least that the emulators allow: waiting longer shows nothing."""
    deliveries = min(max(config.queue.max_deliveries, _FEWEST_DELIVERIES), _MOST_DELIVERIES)
    return Redelivery(
        ack_deadline_seconds=10,
        max_delivery_attempts=deliveries,
        backoff_min_seconds=0,
        backoff_max_seconds=5,
    )


def _in_the_cloud(config: Config, key_file: Path) -> dict[str, Any]:
    settings = config.model_dump(mode="json")
    settings["profile"] = "gcp"
    settings["gcp"] |= {
        "project": PROJECT,
        "credentials_file": str(key_file),
        "signing": "key_file",
    }
    return settings


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Google's clients read where an emulator is from the environment, and from nowhere else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
