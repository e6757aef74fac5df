"""Promptreel itself: its own API, courier and worker, as `promptreel up` starts them."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import yaml

from peers.environments import CannotSetUp
from peers.programs import Program
from peers.systems.system import SERVING, Place, SetUp, System
from services.cli.client_key import client_key
from services.emulators.cloud import emulated_cloud
from services.emulators.google import why_not_installed
from shared.config import Config, load_config

# A queue as long as it gets, as everybody's is here; every other key is as it comes.
_UNLIMITED = {"queued_per_model": None, "queued_per_owner": None}


@contextmanager
def _on_this_machine(place: Place) -> Iterator[SetUp]:
    file, config = _configured(place)
    yield SetUp(programs=_programs(place, file, {}), key=client_key(config).secret)


@contextmanager
def _on_emulators(place: Place) -> Iterator[SetUp]:
    reason = why_not_installed()
    if reason is not None:
        raise CannotSetUp(reason)
    _, config = _configured(place)
    key = client_key(config).secret
    with emulated_cloud(config, place.folder / "cloud") as cloud:
        programs = _programs(place, cloud.config_file, cloud.environment)
        yield SetUp(programs=programs, key=key)


def _configured(place: Place) -> tuple[Path, Config]:
    file = place.folder / "promptreel.yaml"
    settings = {
        "data_dir": "state",
        "server": {"port": place.port},
        "render": {"duration_seconds": 1, "resolution": "240p"},
        "limits": _UNLIMITED,
        "worker": {"metrics_port": None},
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file, load_config(file)


def _programs(place: Place, config_file: Path, more: Mapping[str, str]) -> Sequence[Program]:
    environment = {
        **more,
        "PROMPTREEL_CONFIG": str(config_file),
        "PROMPTREEL_LOG_FORMAT": "json",
    }
    python, tied = sys.executable, "--exit-with-parent"
    api = [python, "-m", "services.api.main", "--port", str(place.port), tied]
    courier = [python, "-m", "services.courier.pull", tied]
    worker = [python, str(SERVING / "promptreel_worker.py")]
    return (
        Program(name="api", role="server", command=api, environment=environment),
        Program(name="courier", role="helper", command=courier, environment=environment),
        Program(name="worker", role="worker", command=worker, environment=environment),
    )


_SET_AS = (
    "as it comes, without its limits on the length of a queue; the render process is the no-op, which "
    "`run_worker` takes as an argument"
)
PROMPTREEL = System(
    name="promptreel",
    title="Promptreel",
    dialect="promptreel",
    set_up=_on_this_machine,
    versions={"promptreel": version("promptreel")},
    keeps="SQLite, each commit synced to the disk",
    set_as=_SET_AS,
    keeps_what_it_accepts=True,
)
PROMPTREEL_EMULATORS = System(
    name="promptreel-emulators",
    title="Promptreel, emulators",
    dialect="promptreel",
    set_up=_on_emulators,
    versions={"promptreel": version("promptreel")},
    keeps="Google's Firestore and Pub/Sub emulators, in memory; they are not killed",
    set_as=f"{_SET_AS}. What the emulators take is not what Google takes",
)
