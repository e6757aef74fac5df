"""Both clients behind one face, and servers that do what a script says."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.emulators.serving import serving
from shared.client import AsyncPromptreel, Promptreel

KEY = "pr_0badcafe_" + "s" * 43
CREATED = "2026-11-21T05:04:24Z"


class Sleeps:
    """Pauses that take no time, to be looked at afterwards."""

    def __init__(self):
        self.seconds = []

    def __call__(self, seconds):
        self.seconds.append(seconds)

    async def awaited(self, seconds):
        self.seconds.append(seconds)


class Awaited:
    """The client that awaits, for tests that do not."""

    def __init__(self, url, key, *, sleep, **options):
        self._loop = asyncio.Runner()
        self._client = AsyncPromptreel(url, key, sleep=sleep.awaited, **options)

    def __repr__(self):
        return repr(self._client)

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def ask(*arguments, **named):
            asked = method(*arguments, **named)
            if inspect.isasyncgen(asked):
                asked = listed(asked)
            return self._loop.run(asked)

        return ask

    def close(self):
        self._loop.run(self._client.close())
        self._loop.close()


async def listed(events):
    return [event async for event in events]


@contextmanager
def client_of(kind, url, key=KEY, **options):
    sleeps = Sleeps()
    client = (Promptreel if kind == "blocking" else Awaited)(url, key, sleep=sleeps, **options)
    try:
        yield client, sleeps
    finally:
        client.close()


@dataclass
class Reply:
    body: bytes | dict = b""
    status: int = 200
    headers: dict = field(default_factory=dict)
    cut_after: int | None = None  # bytes, and then the connection is gone


@dataclass
class ScriptedServer:
    """The next reply of each path's script; the last one stays."""

    scripts: dict[str, list[Reply]]
    asked: list[dict] = field(default_factory=list)
    url: str = ""

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.asked.append({**environ, "body": body})
        script = self.scripts.get(path) or [no_such("not_found")]
        reply = script.pop(0) if len(script) > 1 else script[0]
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"Content-Type": "application/json", **reply.headers}
        if not headers["Content-Type"].startswith("text/event-stream"):
            headers.setdefault("Content-Length", str(len(content)))
        start_response(f"{reply.status} Scripted", list(headers.items()))
        return [content[: reply.cut_after]]

    def paths(self):
        return [asked["PATH_INFO"] for asked in self.asked]

    def header(self, name):
        """Of each request, in order."""
        return [asked.get("HTTP_" + name.upper().replace("-", "_")) for asked in self.asked]


@contextmanager
def scripted(scripts) -> Iterator[ScriptedServer]:
    server = ScriptedServer({path: list(replies) for path, replies in scripts.items()})
    with serving(server) as url:
        server.url = url
        yield server


def refusal(status, code, message="Do something else.", **headers):
    error = {"code": code, "message": message, "request_id": "req_1"}
    return Reply({"error": error}, status, {k.replace("_", "-"): v for k, v in headers.items()})


def no_such(code="job_not_found"):
    return refusal(404, code)


def a_job(status="progress", progress=42, **changes):
    return {
        "id": "job_1",
        "status": status,
        "progress": progress,
        "created_at": CREATED,
        "started_at": CREATED,
        "finished_at": None,
        "gcs_uri": None,
        "error": None,
        "queue_position": None,
        "estimated_seconds_left": None,
        "cost_usd": None,
        **changes,
    }


def sent(event, data, number=None):
    numbered = "" if number is None else f"id: {number}\n"
    return f"event: {event}\n{numbered}data: {json.dumps(data)}\n\n".encode()


def stream(*events):
    return Reply(b"".join(events), headers={"Content-Type": "text/event-stream; charset=utf-8"})
