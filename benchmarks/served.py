"""The programs that `promptreel up` starts, with the demo model, for as long as something is measured."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from services.cli.client_key import client_key
from services.cli.service import Service, free_port
from shared.catalog import find_model
from shared.config import load_config

MODEL = find_model("wan2.1-demo")
_POLL_SECONDS = 0.1


@contextmanager
def served(
    folder: Path, model_dir: Path, *, render: Mapping[str, object], ready_seconds: float
) -> Iterator[httpx.Client]:
    """Asked by a caller with a key, once the model is loaded; ``render`` is that section of its configuration."""
    file = folder / "promptreel.yaml"
    settings = {
        "data_dir": "state",
        "server": {"port": free_port("127.0.0.1")},
        "render": {"model": MODEL.name, **render},
        "models": {MODEL.name: {"dir": str(model_dir)}},
        "worker": {"metrics_port": None},
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = load_config(file)
    key = client_key(config).secret
    with (
        (folder / "log").open("wb") as log,
        Service(
            config_file=file,
            host=config.server.host,
            port=config.server.port,
            log_format="json",
            output=log,
        ) as service,
        httpx.Client(
            base_url=service.url, headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as http,
    ):
        service.wait_ready(timeout_seconds=ready_seconds)
        deadline = time.monotonic() + ready_seconds
        while not http.get("/health").json()["model_loaded"]:
            assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
            time.sleep(_POLL_SECONDS)
        yield http
