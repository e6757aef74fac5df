"""An API that orders pictures, and the provider that makes them, speaking HTTP to each other."""

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from PIL import Image

from services.api.keys.sources import KeyFile, create_key
from services.emulators.replicate import (
    API_TOKEN,
    WEBHOOK_SECRET,
    ReplicateServer,
    replicate_server,
)
from services.emulators.serving import serving
from tests.unit.api_under_test import ApiUnderTest, Clock, running_api

GENERATIONS = "/api/v1/generations"
PROMPT = "a paper boat on a pond, seen from above"
PLANS = {
    "free": {"images_per_month": 3},
    "drawn": {"image_models": ["gemini-2.5-flash-image"]},
    "pro": {"images_per_month": 1000, "images_in_flight": 100},
}


def picture(size=(64, 48), *, kind="PNG", color="teal") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def photograph() -> bytes:
    """A quarter of a megabyte of pixels that do not get smaller, like those of what people send."""
    file = io.BytesIO()
    Image.effect_noise((640, 400), 100).save(file, "PNG")
    return file.getvalue()


@dataclass
class Atelier:
    """Where pictures are ordered, and where they are made."""

    url: str
    api: ApiUnderTest
    provider: ReplicateServer
    client: httpx.Client

    @property
    def clock(self) -> Clock:
        return self.api.clock

    def client_of(self, owner: str) -> httpx.Client:
        key = create_key(KeyFile(self.api.key_file), owner, self.clock.now)
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key}"})

    def order(self, *, key: str | None = None, **fields: object) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client.post(GENERATIONS, json={"prompt": PROMPT} | fields, headers=headers)

    def ordered(self, **fields: object) -> dict:
        reply = self.order(**fields)
        assert reply.status_code == 202, reply.text
        return reply.json()

    def read(self, generation: dict) -> dict:
        reply = self.client.get(f"{GENERATIONS}/{generation['id']}")
        assert reply.status_code == 200, reply.text
        return reply.json()

    def made(self, **fields: object) -> dict:
        """A picture that the provider has made and told of."""
        return self.wait_for(self.ordered(**fields), "succeeded")

    def wait_for(self, generation: dict, *words: str, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        while (seen := self.read(generation))["status"] not in words:
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)
        return seen

    def used(self) -> int:
        return self.client.get("/api/v1/usage").json()["used"]

    def jobs(self) -> int:
        return self.api.jobs

    def stored(self, folder: str) -> list[str]:
        return list(self.api.wiring.artifacts.keys(folder))

    def orders(self) -> list[dict]:
        """What the provider was asked to make."""
        return [asked.body for asked in self.provider.asked if asked.call == "create"]


@dataclass
class _Door:
    """Open before the API behind it is there, which must know its own address."""

    app: object = None
    _opened: threading.Event = field(default_factory=threading.Event)

    def __call__(self, environ, start_response):
        self._opened.wait(10)
        return self.app(environ, start_response)

    def lead_to(self, app) -> None:
        self.app = app
        self._opened.set()


@contextmanager
def running_atelier(
    folder: Path,
    *,
    plan: str = "pro",
    reachable: bool = True,
    replicate: dict | None = None,
    images: dict | None = None,
    vertex: dict | None = None,
    **server: object,
) -> Iterator[Atelier]:
    """By default the provider ends an order at once, and says so.

    Unless it is ``reachable``, the API cannot be called back.
    """
    token, secret, door = folder / "token", folder / "secret", _Door()
    token.write_text(API_TOKEN)
    secret.write_text(WEBHOOK_SECRET)
    with (
        replicate_server(**({"seconds": 0, "polls": None} | server)) as provider,
        serving(door) as url,
    ):
        changes = {
            "images": {
                "replicate": {
                    "api_token_file": str(token),
                    "webhook_secret_file": str(secret),
                    "base_url": provider.url,
                    "output_hosts": [provider.url],
                    "request_seconds": 5,
                }
                | (replicate or {}),
            }
            | (images or {}),
            "vertex": vertex or {},
            "plans": PLANS,
            "plan_of_owner": {"ada": plan},
            "server": {"public_url": url} if reachable else {},
        }
        with (
            running_api(folder, **changes) as api,
            httpx.Client(base_url=url, timeout=30) as client,
        ):
            client.headers["Authorization"] = f"Bearer {api.key}"
            door.lead_to(api.app)
            yield Atelier(url=url, api=api, provider=provider, client=client)


def at_once(count: int, do) -> list:
    """The same thing so many times at the same moment."""
    start = threading.Barrier(count)

    def run(number: int):
        start.wait()
        return do(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def assert_refused(reply: httpx.Response, status: int, code: str, *words: str) -> None:
    """The one shape of an error, in this surface's words."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code, error
    assert error["request_id"] == reply.headers["X-Request-ID"]
    for word in words:
        assert word in error["message"], error
