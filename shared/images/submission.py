"""What a caller asks for, and how it becomes the job of a picture: every rule about such a request.

A bad request is refused here and leaves no job, no debit and no file behind.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from shared.config import Config
from shared.errors import InvalidRequest
from shared.image_catalog import IMAGE_MODELS, ImageModel
from shared.job import Charge, ImageMode, ImageRequest, InputFile, Job, RemoteWork, hash_request
from shared.ledger import month_of
from shared.plans import check_image_model, plan_of
from shared.submission import StartingPicture, checked_key, checked_prompt, retention_of

# What the fields of a request are called, in the order a prompt speaks of them.
INPUT_FIELDS = ("input1", "input2")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class ImageSubmission:
    """What a caller asked for; what it left out comes from the configuration."""

    owner: str
    prompt: str
    request_id: str
    # As received, files by their digest: what an Idempotency-Key is compared by.
    body: Mapping[str, Any]
    mode: ImageMode | None = None
    aspect_ratio: str | None = None
    model: str | None = None
    inputs: Mapping[str, StartingPicture] = field(default_factory=dict)  # by the field it came in
    plan: str | None = None  # that the key brings
    idempotency_key: str | None = None
    traceparent: str | None = None


def settle(
    submission: ImageSubmission,
    config: Config,
    *,
    job_id: str,
    now: datetime,
    new_name: Callable[[], str],
) -> Job:
    """The job to store. Raises ``InvalidRequest``."""
    _, plan = plan_of(submission.owner, config, of_key=submission.plan)
    name = submission.model or config.images.model
    check_image_model(name, plan)
    model = IMAGE_MODELS[name]
    return Job(
        id=job_id,
        owner=submission.owner,
        request=_image_request(submission, model, config, new_name),
        request_hash=hash_request(submission.body),
        request_id=submission.request_id,
        idempotency_key=checked_key(submission.idempotency_key),
        traceparent=submission.traceparent,
        created_at=now,
        max_attempts=config.worker.max_attempts,
        retention=retention_of(config),
        remote=RemoteWork(
            provider=model.provider,
            gives_up_at=now + timedelta(seconds=config.images.overall_seconds),
        ),
        charge=Charge(month=month_of(now)),
    )


def _image_request(
    submission: ImageSubmission, model: ImageModel, config: Config, new_name: Callable[[], str]
) -> ImageRequest:
    mode = _mode(submission)
    folder = f"private/{_folder_of(submission.owner)}/inputs"
    return ImageRequest(
        prompt=checked_prompt(submission.prompt, config.limits.prompt_max_chars),
        model=model.name,
        mode=mode,
        aspect_ratio=_aspect_ratio(submission.aspect_ratio, mode, model),
        inputs=tuple(
            InputFile(
                key=f"{folder}/{new_name()}.{picture.extension}", content_type=picture.content_type
            )
            for picture in pictures_of(submission)
        ),
    )


def pictures_of(submission: ImageSubmission) -> tuple[StartingPicture, ...]:
    """In the order a prompt speaks of them."""
    return tuple(submission.inputs[field] for field in INPUT_FIELDS if field in submission.inputs)


def _mode(submission: ImageSubmission) -> ImageMode:
    """As asked for, else by how many pictures there are. Raises ``InvalidRequest``."""
    given = submission.inputs
    mode = submission.mode or next(mode for mode in ImageMode if mode.inputs == len(given))
    for number, field_name in enumerate(INPUT_FIELDS):
        needed = number < mode.inputs
        if needed and field_name not in given:
            raise InvalidRequest(
                f"The mode {mode} starts from {_pictures(mode.inputs)}: send {field_name} as a file "
                "of multipart/form-data.",
                field=field_name,
            )
        if not needed and field_name in given:
            raise InvalidRequest(
                f"The mode {mode} starts from {_pictures(mode.inputs)}: leave out {field_name}.",
                field=field_name,
            )
    return mode


def _pictures(count: int) -> str:
    return ("no picture", "one picture", "two pictures")[count]


def _aspect_ratio(asked: str | None, mode: ImageMode, model: ImageModel) -> str | None:
    if asked is None:
        return None if mode.inputs else model.aspect_ratios[0]
    if asked not in model.aspect_ratios:
        offered = ", ".join(model.aspect_ratios)
        raise InvalidRequest(f"`aspectRatio` must be one of {offered}.", field="aspectRatio")
    return asked


def _folder_of(owner: str) -> str:
    """The owner's name; where that is no name of a folder, its digest."""
    if _PLAIN_NAME.fullmatch(owner):
        return owner
    return sha256(owner.encode()).hexdigest()[:32]
