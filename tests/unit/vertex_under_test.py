"""Google's real client, over HTTP to our Vertex AI; nobody waits for real."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.emulators.vertex import API_KEY, VertexServer
from services.gpu_worker.backends.veo import Done, Pending, Veo, VeoRequest
from shared.adapters.vertex.connection import Vertex, VertexAccess
from shared.adapters.vertex.retries import RetryPolicy

PROMPT = "a zebra on a unicycle, quietly"
REQUEST = VeoRequest(prompt=PROMPT, duration_seconds=4)
SUBMIT, POLL = "predictLongRunning", "fetchPredictOperation"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Told:
    """What a connection did meanwhile."""

    slept_seconds: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@contextmanager
def connected(server: VertexServer, told: Told | None = None, **access) -> Iterator[Vertex]:
    """By API key, unless ``access`` says otherwise."""
    told = told or Told()
    access = {"api_key": API_KEY, "base_url": server.url, "timeout_seconds": 20.0} | access
    with Vertex(
        VertexAccess(**access),
        retries=RetryPolicy(max_retries=3),
        clock=lambda: NOW,
        sleep=told.slept_seconds.append,
        dice=lambda: 1.0,
        tell=told.lines.append,
    ) as vertex:
        yield vertex


def assert_discreet(error: BaseException, *secrets: str) -> None:
    """Neither the error nor anything that a log would print beside it tells a secret."""
    assert error.__cause__ is None
    assert error.__context__ is None
    message = str(error)
    assert re.fullmatch(r"[A-Z].+\.", message)
    for secret in (PROMPT, API_KEY, *secrets):
        assert secret.lower() not in message.lower().replace("_", " ")


def finished(veo: Veo, request: VeoRequest = REQUEST) -> Done:
    name = veo.submit(request)
    while isinstance(outcome := veo.poll(name), Pending):
        pass
    return outcome


def hear_everything(caplog):
    """By name as well: a program's own set-up, in another test, may have quietened some."""
    for logger in (None, "httpx", "httpcore", "google_genai"):
        caplog.set_level(logging.DEBUG, logger=logger)
