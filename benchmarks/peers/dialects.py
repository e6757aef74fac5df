"""How each service is asked: what is sent, and what its replies mean. Plain data and pure functions.

A service answers in one of three ways, and a client uses the one that its authors offer: it is polled,
it pushes what became of a job to the client's own address, or it holds the request until the end.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Literal
from urllib.parse import quote

_OK, _ACCEPTED, _NOT_FOUND = 200, 202, 404
_JSON = {"Content-Type": "application/json"}


class Seen(StrEnum):
    """What a client sees of a job."""

    WAITING = "waiting"  # for its turn, or in work
    FINISHED = "finished"
    FAILED = "failed"  # and the client is told so
    UNKNOWN = "unknown"  # to the service that had accepted it

    @property
    def is_end(self) -> bool:
        return self is not Seen.WAITING


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One service's API, as far as a client needs it."""

    answers: Literal["polled", "pushed", "held"]
    submit: Callable[[str], Request]  # of a prompt
    accepted: Callable[[int, bytes], str | None]  # the job's id; None: refused
    status: Callable[[str], Request] | None = None  # None: cannot be asked
    seen: Callable[[int, bytes], Seen] = lambda _status, _body: Seen.UNKNOWN
    events: Callable[[str], Request] | None = None  # a stream that follows a job
    last_event: bytes = b""  # what only the stream's last event holds
    pushed: Callable[[bytes], tuple[str, Seen]] | None = None  # what a push says: job and end


def dialect_of(name: str, *, key: str = "", callback_url: str = "") -> Dialect:
    """``key``: of a service that wants one; ``callback_url``: where one that pushes shall push to."""
    match name:
        case "promptreel":
            return _promptreel({"Authorization": f"Bearer {key}"})
        case "bentoml":
            return _bentoml()
        case "cog":
            return _cog(callback_url)
        case "fastapi":
            return _fastapi()
        case "litserve":
            return _litserve()
    raise AssertionError(f"nobody speaks {name}")


def _post(path: str, headers: Mapping[str, str], **body: object) -> Request:
    return Request("POST", path, {**_JSON, **headers}, json.dumps(body).encode())


def _id_in(status: int, body: bytes, *, name: str, expected: int) -> str | None:
    return json.loads(body)[name] if status == expected else None


def _seen_in(status: int, body: bytes, *, words: Mapping[str, Seen]) -> Seen:
    """Words that are no end are waiting."""
    if status == _NOT_FOUND:
        return Seen.UNKNOWN
    if status != _OK:
        return Seen.WAITING
    return words.get(json.loads(body)["status"], Seen.WAITING)


def _promptreel(headers: Mapping[str, str]) -> Dialect:
    words = {"finished": Seen.FINISHED, "failed": Seen.FAILED, "canceled": Seen.FAILED}
    return Dialect(
        answers="polled",
        submit=lambda prompt: _post("/v1/jobs", headers, prompt=prompt),
        accepted=partial(_id_in, name="id", expected=_ACCEPTED),
        status=lambda job_id: Request("GET", f"/v1/jobs/{job_id}", headers),
        seen=partial(_seen_in, words=words),
        events=lambda job_id: Request("GET", f"/v1/jobs/{job_id}/events", headers),
        last_event=b"event: end",
    )


def _bentoml() -> Dialect:
    words = {"completed": Seen.FINISHED, "failed": Seen.FAILED, "canceled": Seen.FAILED}
    return Dialect(
        answers="polled",
        submit=lambda prompt: _post("/generate/submit", {}, prompt=prompt),
        accepted=partial(_id_in, name="task_id", expected=_OK),
        status=lambda job_id: Request("GET", f"/generate/status?task_id={quote(job_id)}"),
        seen=partial(_seen_in, words=words),
    )


def _fastapi() -> Dialect:
    """Before RQ and before Celery: each has words of its own for the same."""
    words = {
        "finished": Seen.FINISHED,
        "failed": Seen.FAILED,
        "stopped": Seen.FAILED,
        "SUCCESS": Seen.FINISHED,
        "FAILURE": Seen.FAILED,
    }
    return Dialect(
        answers="polled",
        submit=lambda prompt: _post("/jobs", {}, prompt=prompt),
        accepted=partial(_id_in, name="id", expected=_ACCEPTED),
        status=lambda job_id: Request("GET", f"/jobs/{job_id}"),
        seen=partial(_seen_in, words=words),
    )


def _litserve() -> Dialect:
    """Its reply is the video."""
    return Dialect(
        answers="held",
        submit=lambda prompt: _post("/predict", {}, prompt=prompt),
        accepted=lambda status, _body: "held" if status == _OK else None,
    )


def _cog(callback_url: str) -> Dialect:
    """Its authors let the client name the prediction; the prompt will do, which is its own."""

    def order(prompt: str, headers: Mapping[str, str], **more: object) -> Request:
        request = _post("/", headers, id=prompt, input={"prompt": prompt}, **more)
        return Request("PUT", f"/predictions/{quote(prompt)}", request.headers, request.body)

    def submit(prompt: str) -> Request:
        asynchronous = {"Prefer": "respond-async"}
        if not callback_url:
            return order(prompt, asynchronous)
        events = ["completed"]
        return order(prompt, asynchronous, webhook=callback_url, webhook_events_filter=events)

    def pushed(body: bytes) -> tuple[str, Seen]:
        told: dict[str, Any] = json.loads(body)
        ends = {"succeeded": Seen.FINISHED, "failed": Seen.FAILED, "canceled": Seen.FAILED}
        return told["id"], ends.get(told["status"], Seen.WAITING)

    return Dialect(
        answers="pushed",
        submit=submit,
        accepted=partial(_id_in, name="id", expected=_ACCEPTED),
        # Asked again for a prediction that is in work, it makes no second one, but tells of it.
        events=lambda prompt: order(prompt, {"Accept": "text/event-stream"}),
        last_event=b"event: completed",
        pushed=pushed,
    )
