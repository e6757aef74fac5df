"""What is asked of the API, and how its replies are read: no network here, for both clients."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from shared.client.errors import Unreadable, error_of
from shared.schemas import (
    ArtifactLink,
    Health,
    JobAccepted,
    JobDetails,
    JobList,
    JobLogs,
    Ok,
    Status,
)

# What may go into a header.
ONE_WORD = re.compile(r"[!-~]+")
_PRINTABLE = re.compile(r"[!-~]([ -~]*[!-~])?")

ReplyT = TypeVar("ReplyT", bound=BaseModel)


class AnyJob(JobDetails):
    """A job as any server tells it: an older one knows no details."""

    queue_position: int | None = None
    estimated_seconds_left: int | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Call(Generic[ReplyT]):
    """One request, and the schema of its reply."""

    path: str
    reply: type[ReplyT]
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] | None = None
    repeatable: bool = True  # done twice, it comes to the same


def submit(prompt: str, idempotency_key: str | None) -> Call[JobAccepted]:
    """Always with an Idempotency-Key: a repeated one must not become another job.

    Raises ``ValueError`` for what cannot be sent; what is sent the server judges.
    """
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("the prompt holds half a character") from None
    if idempotency_key is not None and not _PRINTABLE.fullmatch(idempotency_key):
        raise ValueError("an idempotency key is of printable ASCII characters")
    return Call(
        method="POST",
        path="/v1/jobs",
        reply=JobAccepted,
        headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
        json={"prompt": prompt},
    )


def get(job_id: str) -> Call[JobDetails]:
    return Call[JobDetails](path=_job(job_id), reply=AnyJob)


def page(
    *, limit: int, after: str | None, order: str | None, status: Status | None
) -> Call[JobList]:
    said = {"limit": str(limit), "after": after, "order": order, "status": status}
    params = {name: value for name, value in said.items() if value is not None}
    return Call(path="/v1/jobs", reply=JobList, params=params)


def events(job_id: str, after: int) -> Call[JobDetails]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = str(after)
    return Call(path=_job(job_id, "/events"), reply=JobDetails, headers=headers)


def logs(job_id: str, tail: int | None) -> Call[JobLogs]:
    params = {} if tail is None else {"tail": str(tail)}
    return Call(path=_job(job_id, "/logs"), reply=JobLogs, params=params)


def cancel(job_id: str) -> Call[Ok]:
    return Call(method="POST", path=_job(job_id, "/cancel"), reply=Ok)


def artifact(job_id: str, kind: str) -> Call[ArtifactLink]:
    return Call(path=_job(job_id, "/artifact"), reply=ArtifactLink, params={"kind": kind})


def health() -> Call[Health]:
    return Call(path="/health", reply=Health)


def read(call: Call[ReplyT], response: httpx.Response) -> ReplyT:
    """The reply of a response that has been read. Raises ``ApiError``."""
    if not response.is_success:
        raise error_of(response.status_code, response.headers, response.content)
    try:
        return call.reply.model_validate_json(response.content)
    except ValidationError:
        raise Unreadable(response.status_code) from None


def _job(job_id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"
