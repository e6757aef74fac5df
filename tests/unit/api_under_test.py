"""A whole API over the real local adapters, with a worker of a few lines and a clock to move."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import yaml
from flask import Flask
from flask.testing import FlaskClient

from services.api.app import create_app
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile, create_key
from shared.catalog import TOPIC_GPU
from shared.config import load_config
from shared.errors import PromptreelError
from shared.job import Artifact, Job, RenderSummary, artifact_key
from shared.ports import WorkerBeat
from shared.wiring import Wiring, wire

# No part of it is like another, so that a wrong part is noticed.
VIDEO = b"\x00\x00\x00\x18ftypisom" + b"".join(sha256(bytes([n])).digest() for n in range(250))
PROMPT = "a red circle moving left on navy"


@dataclass
class Clock:
    """The time, which only moves when it is told to."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Silent:
    """A port that does not answer, whatever it is asked."""

    def __init__(self, error: type[PromptreelError]) -> None:
        self._error = error

    def __getattr__(self, name: str):
        def ask(*_: object, **__: object) -> None:
            raise self._error("the database cannot be used (SQLITE_CANTOPEN)")

        return ask


@dataclass
class FakeWorker:
    """Takes the next message, and does with its job what it is told."""

    wiring: Wiring
    folder: Path

    def claim_next(self) -> Job:
        delivery = self.wiring.queue.receive([TOPIC_GPU], wait_seconds=10)
        assert delivery is not None, "nothing was published"
        self.wiring.queue.acknowledge(delivery)
        return self.wiring.lifecycle.claim(delivery.message.job_id, worker="fake")

    def render_next(self) -> Job:
        return self.complete(self.claim_next())

    def fail_next(self, error: PromptreelError) -> Job:
        job = self.claim_next()
        return self.wiring.lifecycle.fail(job.id, token=job.lease.token, error=error)

    def cancel_next(self) -> Job:
        job = self.claim_next()
        self.wiring.lifecycle.cancel(job.id, owner=job.owner)
        return self.wiring.lifecycle.acknowledge_cancel(job.id, token=job.lease.token)

    def complete(self, job: Job) -> Job:
        return self.wiring.lifecycle.complete(
            job.id,
            token=job.lease.token,
            artifacts=(
                self._store(job, "video", "final_video.mp4", "video/mp4"),
                self._store(job, "poster", "poster.jpg", "image/jpeg"),
                self._store(job, "spritesheet", "spritesheet.jpg", "image/jpeg"),
            ),
            summary=RenderSummary(
                device="cpu",
                frames=81,
                fps=16,
                native_size="416x240",
                output_size="832x480",
                generation_seconds=1.5,
                phase_seconds={"generation": 1.25},
            ),
        )

    def beat(self, *, model_loaded: bool, job_id: str | None = None) -> None:
        self.wiring.store.beat(
            WorkerBeat(
                instance="fake",
                model="wan2.1-demo",
                device="NVIDIA L4" if model_loaded else None,
                model_loaded=model_loaded,
                job_id=job_id,
                seen_at=self.wiring.lifecycle.now(),
            )
        )

    def _store(self, job: Job, kind: str, name: str, content_type: str) -> Artifact:
        source = self.folder / name
        source.write_bytes(VIDEO)
        key = artifact_key(job, prefix="videos", name=name)
        stored = self.wiring.artifacts.put(key, source, content_type=content_type)
        return Artifact(
            kind=kind,
            key=key,
            uri=stored.uri,
            content_type=content_type,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=832,
            height=480,
        )


@dataclass
class ApiUnderTest:
    app: Flask
    wiring: Wiring
    worker: FakeWorker
    clock: Clock
    key: str
    key_file: Path

    @property
    def client(self) -> FlaskClient:
        return self.client_of(self.key)

    @property
    def stranger(self) -> FlaskClient:
        """Somebody with a key of another owner."""
        return self.client_of(create_key(KeyFile(self.key_file), "bob", self.clock.now))

    @property
    def anonymous(self) -> FlaskClient:
        return self.app.test_client()

    def client_of(self, key: str) -> FlaskClient:
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
        return client

    def submit(self, prompt: str = PROMPT) -> str:
        """A new job's id."""
        return self.client.post("/v1/jobs", json={"prompt": prompt}).json["id"]

    def finished(self) -> str:
        """The id of a job whose video is there."""
        self.submit()
        return self.worker.render_next().id

    def link(self, job_id: str, **query: object) -> str:
        """A signed link to a job's video, as a path and a query."""
        reply = self.client.get(f"/v1/jobs/{job_id}/artifact", query_string=query)
        return reply.json["url"].removeprefix("http://localhost")

    @property
    def jobs(self) -> int:
        return sum(self.wiring.store.counts().values())

    def with_silent(self, port: str, error: type[PromptreelError]) -> FlaskClient:
        """The same API with one port that does not answer."""
        silent = {port: Silent(error)}
        lifecycle = replace(self.wiring.lifecycle, **silent)
        known_there = {name: it for name, it in silent.items() if name != "queue"}
        generations = replace(self.wiring.generations, **known_there)
        broken = wire(self.wiring.config)
        broken.close()
        wiring = replace(broken, **silent, lifecycle=lifecycle, generations=generations)
        client = create_app(wiring, KeyRing(KeyFile(self.key_file))).test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {self.key}"
        return client


@contextmanager
def running_api(folder: Path, **changes: object):
    """An API of the demo model, with the default configuration but for what is named."""
    file = folder / "promptreel.yaml"
    settings = {"data_dir": "state", "render": {"model": "wan2.1-demo"}} | changes
    file.write_text(yaml.safe_dump(settings))
    config = load_config(file)
    clock = Clock()
    wired = wire(config)
    generations = replace(wired.generations, now=clock)
    lifecycle = replace(wired.lifecycle, now=clock, remote=generations.following)
    wiring = replace(wired, lifecycle=lifecycle, generations=generations)
    key = create_key(KeyFile(config.server.key_file), "ada", clock.now)
    try:
        yield ApiUnderTest(
            app=create_app(wiring, KeyRing(KeyFile(config.server.key_file))),
            wiring=wiring,
            worker=FakeWorker(wiring, folder),
            clock=clock,
            key=key,
            key_file=config.server.key_file,
        )
    finally:
        wiring.close()


@contextmanager
def meanwhile(work):
    """Do something in a thread of its own; what it raises is raised here at the end."""
    with ThreadPoolExecutor(1) as thread:
        future: Future = thread.submit(work)
        yield future
        future.result(30)


def assert_error(reply, status: int, code: str, *words: str) -> None:
    """The one shape of an error: it says what is wrong and what to do, and which request it was."""
    assert reply.status_code == status, reply.text
    assert reply.content_type == "application/json"
    assert set(reply.json) == {"error"}
    error = reply.json["error"]
    assert error["code"] == code
    assert error["request_id"] == reply.headers["X-Request-ID"]
    assert error["message"].endswith(".")
    for word in words:
        assert word in error["message"]
