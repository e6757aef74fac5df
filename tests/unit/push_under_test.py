"""The worker that is pushed to, with a scripted render process, as its tests open it."""

import base64
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import functions_framework
import structlog
import yaml
from flask import Flask

from services.gpu_worker.push_service import PushService
from shared.config import Config
from shared.errors import StoreUnavailable
from shared.job import Job, JobStatus
from shared.lifecycle import Lifecycle, Submission
from shared.messages import Message, encode
from shared.wiring import Wiring, wire

ROOT = Path(__file__).parents[2]
MAIN = ROOT / "services" / "gpu_worker" / "main.py"
SCRIPT = Path(__file__).with_name("scripted_render_process.py")


def write_config(folder: Path) -> Path:
    settings = {
        "data_dir": str(folder / "state"),
        "worker": {
            "lease_seconds": 2,
            "heartbeat_seconds": 0.5,
            "grace_seconds": 0.3,
            "max_attempts": 2,
        },
        "queue": {"backoff_min_seconds": 0.01},
    }
    file = folder / "promptreel.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


@dataclass
class Pushed:
    """The worker's application, and how to push to it from many threads."""

    app: Flask

    def post(self, content: object, headers: dict[str, str] | None = None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self.app.test_client().post("/", data=body, headers=headers)

    def push(self, job_id: str) -> int:
        return self.post(envelope(job_id)).status_code

    def get(self, path: str):
        return self.app.test_client().get(path)


@dataclass
class Workers:
    """Opens the entry itself, PROMPTREEL_CONFIG being set."""

    config: Config
    opened: list[PushService] = field(default_factory=list)

    def __call__(self, config: Config | None = None, **options) -> Pushed:
        app = functions_framework.create_app("render", str(MAIN), "http")
        service = PushService(
            config or self.config,
            instance=f"pushed-{len(self.opened)}",
            command=(sys.executable, str(SCRIPT)),
            **options,
        )
        app.extensions["promptreel-push"] = service
        self.opened.append(service)
        return Pushed(app)


@contextmanager
def pushed_workers(config: Config) -> Iterator[Workers]:
    workers = Workers(config)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield workers
    for service in workers.opened:
        service.close()
    # The entry has set up the log of this process as if it were its own.
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level


class _NeverCompletes(Lifecycle):
    def complete(self, *_arguments, **_fields):
        raise StoreUnavailable("the database cannot be used")


def wire_without_completion(config: Config) -> Wiring:
    """A store that is away whenever a job is to be completed."""
    wired = wire(config)
    return replace(wired, lifecycle=_NeverCompletes(**vars(wired.lifecycle)))


def submit(wiring: Wiring, prompt: str) -> Job:
    submission = Submission(owner="ada", prompt=prompt, request_id="r1", body={"prompt": prompt})
    return wiring.lifecycle.submit(submission)


def envelope(job_id: str) -> dict:
    data = base64.b64encode(encode(Message(job_id=job_id))).decode()
    return {"message": {"data": data, "messageId": "1"}, "subscription": "s", "deliveryAttempt": 1}


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(wiring: Wiring, job: Job) -> JobStatus:
    return wiring.store.get(job.id).status
