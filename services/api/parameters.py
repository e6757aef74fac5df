"""What routes take besides a body: headers and parts of the path.

Query parameters that a route does not know are ignored, as HTTP clients and proxies expect.
"""

from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from services.api.context import owner, request_id, traceparent
from shared.schemas import Request
from shared.submission import Submission


class Parameters(BaseModel):
    """Headers, or query parameters. At every request flask-openapi3 asks them for their schema."""

    @classmethod
    def model_json_schema(cls, *args: object, **named: object) -> dict[str, Any]:
        if args or named:
            return super().model_json_schema(*args, **named)  # type: ignore[arg-type]
        return _schema_of(cls)


@cache
def _schema_of(model: type[Parameters]) -> dict[str, Any]:
    return BaseModel.model_json_schema.__func__(model)  # type: ignore[attr-defined,no-any-return]


class CreateHeaders(Parameters):
    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="The same key and body give the same job; the same key with another body, 409.",
    )


class JobPath(BaseModel):
    job_id: str = Field(description="The job's id, as the create call returned it.")


def submission(
    header: CreateHeaders,
    body: Request,
    *,
    prompt: str,
    duration_seconds: int | None = None,
    resolution: str | None = None,
) -> Submission:
    """What the caller of this request asks for."""
    return Submission(
        owner=owner(),
        prompt=prompt,
        request_id=request_id(),
        body=body.model_dump(),
        duration_seconds=duration_seconds,
        resolution=resolution,
        idempotency_key=header.idempotency_key,
        traceparent=traceparent(),
    )
