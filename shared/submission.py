"""What a caller asks for, and how it becomes a job: every rule about a request, in one place.

Whatever surface it came through, a bad request is refused here and leaves no job behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.catalog import find_model
from shared.config import Config
from shared.errors import InvalidRequest
from shared.job import Job, RenderRequest, Retention, hash_request
from shared.schemas import check_prompt

_SECONDS_A_DAY = 24 * 3600
_MAX_KEY_CHARS = 255


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a caller asked for; what it left out comes from the configuration."""

    owner: str
    prompt: str
    request_id: str
    body: Mapping[str, Any]  # as received: what an Idempotency-Key is compared by
    duration_seconds: int | None = None
    resolution: str | None = None
    idempotency_key: str | None = None
    traceparent: str | None = None


def settle(
    submission: Submission,
    config: Config,
    *,
    job_id: str,
    now: datetime,
    new_seed: Callable[[], int],
) -> Job:
    """The job to store, with everything a retry must not choose again. Raises ``InvalidRequest``."""
    retention = config.retention
    return Job(
        id=job_id,
        owner=submission.owner,
        request=_render_request(submission, config, new_seed),
        request_hash=hash_request(submission.body),
        request_id=submission.request_id,
        idempotency_key=_checked_key(submission.idempotency_key),
        traceparent=submission.traceparent,
        created_at=now,
        max_attempts=config.worker.max_attempts,
        retention=Retention(
            artifact_seconds=retention.artifact_days * _SECONDS_A_DAY,
            job_seconds=retention.job_days * _SECONDS_A_DAY,
        ),
    )


def _render_request(
    submission: Submission, config: Config, new_seed: Callable[[], int]
) -> RenderRequest:
    defaults = config.render
    model = find_model(defaults.model)
    duration, resolution = submission.duration_seconds, submission.resolution
    if duration is None:
        duration = defaults.duration_seconds
    if resolution is None:
        resolution = defaults.resolution
    model.check_duration(duration)
    model.output_size(resolution)
    return RenderRequest(
        prompt=_checked_prompt(submission.prompt, config.limits.prompt_max_chars),
        model=model.name,
        duration_seconds=duration,
        resolution=resolution,
        preset=defaults.preset,
        seed=new_seed() if defaults.seed is None else defaults.seed,
    )


def _checked_prompt(prompt: str, limit: int) -> str:
    try:
        check_prompt(prompt)
    except ValueError as error:
        reason = str(error)
        raise InvalidRequest(f"{reason[0].upper()}{reason[1:]}.", field="prompt") from error
    if len(prompt) > limit:
        raise InvalidRequest(
            f"The prompt has {len(prompt)} characters; shorten it to {limit}.", field="prompt"
        )
    return prompt


def _checked_key(key: str | None) -> str | None:
    if key is None:
        return None
    if not key.strip() or len(key) > _MAX_KEY_CHARS or not key.isprintable():
        raise InvalidRequest(
            f"The Idempotency-Key must have 1 to {_MAX_KEY_CHARS} printable characters.",
            field="Idempotency-Key",
        )
    return key
