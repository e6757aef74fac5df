"""What clients and services say to each other over HTTP: requests, replies, health, errors."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
)

# A character that can be seen. Spelled out, because readers of patterns do not agree on what a space is.
SEEN = r"[^\s\x00-\x1f\x7f-\x9f\ufeff]"

Status = Literal["queued", "started", "progress", "finished", "failed", "canceled"]


def check_prompt(prompt: str) -> str:
    """Raises ``ValueError`` for a prompt no model can read and no store can keep."""
    if "\x00" in prompt:
        raise ValueError("the prompt holds a NUL character; remove it")
    if re.search(SEEN, prompt) is None:
        raise ValueError("the prompt is empty; describe the video to make")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("the prompt holds half a character; send valid Unicode") from None
    return prompt


Prompt = Annotated[
    StrictStr,
    AfterValidator(check_prompt),
    Field(description="What the video shows.", examples=["a red circle moving left on navy"]),
]


def _whole(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    """JSON has one kind of number: some writers write 5 as 5.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[StrictInt, BeforeValidator(_whole)]


class Request(BaseModel):
    """A request body: unknown fields are refused, nothing is coerced."""

    # Its errors may be logged, and what was sent may be a prompt.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Reply(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


# --- A: synchronous


class GenerateRequest(Request):
    prompt: Prompt
    duration: Whole = Field(default=5, description="Length of the clip in seconds.")
    resolution: StrictStr = Field(default="480p", description="`480p` (832×480) or `240p`.")


class GenerateMetadata(Reply):
    prompt: str
    duration: int
    generation_time_seconds: float = Field(description="From the worker's claim to the MP4.")
    model: str = Field(description="The model family that rendered, `wan2.1`.")
    request_id: str
    job_id: str
    checkpoint: str = Field(description="The catalog's name of the weights.")
    resolution: str
    size: str = Field(description="Width × height of the file in pixels, `832x480`.")
    native_size: str = Field(description="What the model rendered before scaling.")
    frames: int
    fps: int
    seed: int
    device: str
    queue_seconds: float
    phase_seconds: dict[str, float]


class GenerateReply(Reply):
    status: Literal["success"] = "success"
    output_url: str = Field(description="A signed link to the MP4; needs no key.")
    expires_at: datetime = Field(description="Of the link; at the latest when the file expires.")
    metadata: GenerateMetadata


class Health(Reply):
    status: Literal["healthy", "degraded", "unhealthy"]
    model_loaded: bool
    gpu: str | None = Field(description="The device of a live worker, `NVIDIA L4`, or `cpu`.")
    workers: int | None = Field(
        description="Workers whose heartbeat is fresh; null while the job store does not answer."
    )
    jobs_queued: int | None
    jobs_running: int | None
    message: str


# --- B: prompt-only


class JobRequest(Request):
    prompt: Prompt


class JobAccepted(Reply):
    id: str
    status: Status


class JobFailure(Reply):
    code: str
    message: str


class JobView(Reply):
    id: str
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent of the whole job.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    gcs_uri: str | None = Field(
        description=(
            "`gs://…`; on one machine `local://…`. Null before the file is stored and once it is "
            "past its retention."
        )
    )
    error: JobFailure | None = Field(
        description=(
            "Why there is no file and will be none: what a `failed` job failed of, or "
            "`artifact_expired` for a `finished` job whose file is past its retention."
        )
    )


class JobDetails(JobView):
    queue_position: int | None = Field(
        description="Among the jobs that wait for the same model, 1 is next; null unless `queued`."
    )
    estimated_seconds_left: int | None = Field(
        description=(
            "Of a `queued` job, at the pace at which jobs of its model have ended in the last ten "
            "minutes; of a running one, by its own progress. Null where nothing is measured to tell "
            "it by."
        )
    )
    cost_usd: float | None = Field(
        description=(
            "Of a `finished` job: the seconds it was rendered, times the price of its device. Null "
            "where no price is noted for it."
        )
    )


class JobList(Reply):
    data: list[JobDetails]
    has_more: bool = Field(description="Whether there are more after `last_id`.")
    last_id: str | None = Field(description="What to ask for the next page with, as `after`.")


class ArtifactLink(Reply):
    gcs_uri: str
    url: str
    expires_in: int = Field(
        description="Seconds until the link expires, with its file at the latest; 0 for a public file."
    )


class JobLogs(Reply):
    lines: list[str]


class Ok(Reply):
    ok: Literal[True] = True


# --- operations and errors


class Readiness(Reply):
    status: Literal["ready", "unavailable"]
    checks: dict[str, str]


class Swept(Reply):
    """What one sweep did, in jobs."""

    published: int = Field(description="Had no message yet.")
    requeued: int = Field(description="Taken back from a silent worker.")
    asked: int = Field(description="A provider was asked about them.")
    ended: int = Field(description="Failed or canceled: no attempt was left.")
    announced: int = Field(description="Had ended, and nobody had yet taken their webhook.")
    expired: int = Field(description="Their files were past retention.")
    tidied: int = Field(description="Their files were removed that are nobody's result.")
    forgotten: int = Field(description="Were past retention themselves.")


class ErrorDetail(Reply):
    code: str
    message: str
    request_id: str
    field: str | None = None
    details: list[dict[str, Any]] | None = None


class ErrorReply(Reply):
    error: ErrorDetail
