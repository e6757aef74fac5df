"""What a caller asks for, and how it becomes a job: every rule about a request, in one place.

Whatever surface it came through, a bad request is refused here and leaves no job behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import Any

from shared.catalog import TOPIC_REMOTE, Model, find_model
from shared.config import Config
from shared.errors import InvalidRequest
from shared.job import InputFile, Job, RenderRequest, Retention, artifact_key, hash_request
from shared.schemas import check_prompt

_SECONDS_A_DAY = 24 * 3600
MAX_KEY_CHARS = 255
# Four times as many as any preset has: more would only take longer.
MOST_STEPS = 200
MOST_GUIDANCE = 100
SEEDS = 2**63


@dataclass(frozen=True, kw_only=True)
class StartingPicture:
    """What a video is to begin with, checked and without metadata. Its ``repr`` is safe to log."""

    content: bytes = field(repr=False)
    content_type: str
    extension: str  # "jpg"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a caller asked for; what it left out comes from the configuration."""

    owner: str
    prompt: str
    request_id: str
    body: Mapping[str, Any]  # as received: what an Idempotency-Key is compared by
    model: str | None = None
    duration_seconds: int | None = None
    frames: int | None = None  # instead of a duration
    fps: int | None = None  # as the model's; it renders no other
    resolution: str | None = None
    size: str | None = None  # "832x480": the resolution, in other words
    preset: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    picture: StartingPicture | None = None
    # A video whose settings it is to have; it says nothing else but a prompt.
    remix_of: Job | None = None
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
    job = Job(
        id=job_id,
        owner=submission.owner,
        request=_request(submission, config, new_seed),
        request_hash=hash_request(submission.body),
        request_id=submission.request_id,
        idempotency_key=checked_key(submission.idempotency_key),
        traceparent=submission.traceparent,
        created_at=now,
        max_attempts=config.worker.max_attempts,
        retention=retention_of(config),
        remixed_from=submission.remix_of.id if submission.remix_of else None,
    )
    picture = submission.picture
    return job if picture is None else _beginning_with(picture, job, config)


def _beginning_with(picture: StartingPicture, job: Job, config: Config) -> Job:
    """With a place for the picture among the parts of it that go when it has ended."""
    name = f"parts/first_frame.{picture.extension}"
    key = artifact_key(job, prefix=config.artifacts.prefix, name=name)
    file = InputFile(key=key, content_type=picture.content_type)
    return replace(job, request=replace(job.render, first_frame=file))


def retention_of(config: Config) -> Retention:
    days = config.retention
    return Retention(
        artifact_seconds=days.artifact_days * _SECONDS_A_DAY,
        job_seconds=days.job_days * _SECONDS_A_DAY,
    )


def _request(submission: Submission, config: Config, new_seed: Callable[[], int]) -> RenderRequest:
    if submission.remix_of is None:
        return _render_request(submission, config, new_seed)
    request = submission.remix_of.render
    _model_of(request.model, config)  # It may have been made by one that is not here any more.
    if request.first_frame is not None:
        raise InvalidRequest(
            "The video began with a picture, which is not kept: create another one with it."
        )
    return replace(
        request, prompt=checked_prompt(submission.prompt, config.limits.prompt_max_chars)
    )


def _render_request(
    submission: Submission, config: Config, new_seed: Callable[[], int]
) -> RenderRequest:
    model = _model_of(submission.model, config)
    preset = _preset(submission.preset, model, config)
    settings = _steps_and_frames(submission, model, preset, config)
    model.check_settings(preset, **settings)
    if submission.picture is not None:
        check_beginning(model, preset, config)
    # Who says how long it is to be asks for one clip, and who says what it begins with.
    said = (submission.duration_seconds, submission.frames, submission.picture)
    mode = config.generation_mode if said == (None, None, None) else "single"
    if mode != "single":
        _check_long_video(model, preset)
    return RenderRequest(
        prompt=checked_prompt(submission.prompt, config.limits.prompt_max_chars),
        model=model.name,
        duration_seconds=_duration_seconds(submission, model, config),
        resolution=_resolution(submission, model, config),
        preset=preset,
        seed=_seed(submission.seed, config, new_seed),
        mode=mode,
        segments=1 if mode == "single" else config.segments,
        crossfade_seconds=0.0 if mode == "single" else config.crossfade_seconds,
        negative_prompt=_negative_prompt(submission.negative_prompt, config),
        **settings,
    )


def models_offered(config: Config) -> list[str]:
    """Those that workers here have, the one of requests that name none first."""
    return [config.model_of(backend) for backend in config.backends]


def _model_of(name: str | None, config: Config) -> Model:
    """One that workers here have. Raises ``InvalidRequest``."""
    offered = models_offered(config)
    if name is None:
        return find_model(config.model_name)
    if name not in offered:
        raise InvalidRequest(
            f"This installation has the models {', '.join(offered)}.", field="model"
        )
    return find_model(name)


def _preset(asked: str | None, model: Model, config: Config) -> str:
    if asked is None:
        return preset_of(model, config)
    offered = presets_offered(model, config)
    if asked not in offered:
        raise InvalidRequest(
            f"This installation offers the presets {', '.join(offered)}.", field="preset"
        )
    return asked


def check_beginning(model: Model, preset: str, config: Config) -> None:
    """Raises ``InvalidRequest`` where no video can begin with a picture."""
    if model.topic == TOPIC_REMOTE:
        return
    if config.companion_dir is None:
        raise InvalidRequest(
            "This installation begins no video with a picture: it needs a model for that, named as "
            f"models.{model.name}.image_to_video in its configuration.",
            field="picture",
        )
    if model.presets[preset].scheduler == "dmd":
        raise InvalidRequest(
            f"The preset {preset} begins no video with a picture.", field="picture"
        )


def _check_long_video(model: Model, preset: str) -> None:
    if model.presets[preset].scheduler == "dmd":
        raise InvalidRequest(
            f"The preset {preset} renders single clips only: say how long it is to be.",
            field="preset",
        )


def _duration_seconds(submission: Submission, model: Model, config: Config) -> int:
    """Of frames, the whole seconds that they fill."""
    if submission.fps not in (None, model.fps):
        raise InvalidRequest(f"This model renders {model.fps} frames a second.", field="fps")
    duration, frames = submission.duration_seconds, submission.frames
    if frames is not None:
        if duration is not None:
            raise InvalidRequest("Give a duration or a number of frames, not both.", field="frames")
        whole = ceil((frames - model.opening_frames) / model.fps)
        return max(whole, model.min_duration_seconds)
    if duration is None:
        duration = config.render.duration_seconds
    model.check_duration(duration)
    return duration


def _resolution(submission: Submission, model: Model, config: Config) -> str:
    if submission.size is not None:
        return model.resolution_of(submission.size)
    resolution = submission.resolution
    if resolution is None:
        resolution = config.render.resolution
    model.output_size(resolution)
    return resolution


def _seed(asked: int | None, config: Config, new_seed: Callable[[], int]) -> int:
    if asked is None:
        return new_seed() if config.render.seed is None else config.render.seed
    if not 0 <= asked < SEEDS:
        raise InvalidRequest(f"The seed must be 0 to {SEEDS - 1}.", field="seed")
    return asked


def _negative_prompt(asked: str | None, config: Config) -> str | None:
    """None: the model's own. An empty one asks for nothing to be kept out."""
    if not asked:
        return asked
    return checked_prompt(asked, config.limits.prompt_max_chars, field="negative_prompt")


def presets_offered(model: Model, config: Config) -> list[str]:
    """The weights are those of the configured one: it may be another one of theirs."""
    weights = model.presets[preset_of(model, config)].checkpoint
    return [
        name
        for name, preset in model.presets.items()
        if preset.checkpoint == weights and (preset.decoder == "full" or config.tiny_decoder)
    ]


def preset_of(model: Model, config: Config) -> str:
    """The configured one; a model of another backend has its own."""
    return config.render.preset if model.name == config.render.model else model.default_preset


def _steps_and_frames(
    submission: Submission, model: Model, preset: str, config: Config
) -> dict[str, Any]:
    """What is to be instead of the preset's; what is configured is so for its own preset, of Wan."""
    steps, scale, frames = submission.steps, submission.guidance_scale, submission.frames
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise InvalidRequest(f"The steps must be 1 to {MOST_STEPS}.", field="steps")
    if scale is not None and not 1 <= scale <= MOST_GUIDANCE:
        raise InvalidRequest(
            f"The guidance scale must be 1 to {MOST_GUIDANCE}.", field="guidance_scale"
        )
    render = config.render
    if model.name == render.model:
        if frames is None and submission.duration_seconds is None:
            frames = render.frames
        if preset == render.preset:
            steps = render.steps if steps is None else steps
            scale = render.guidance_scale if scale is None else scale
    return {"frames": frames, "steps": steps, "guidance_scale": scale}


def checked_prompt(prompt: str, limit: int, *, field: str = "prompt") -> str:
    """Raises ``InvalidRequest`` for one that is empty, unreadable or too long."""
    try:
        check_prompt(prompt)
    except ValueError as error:
        reason = str(error)
        raise InvalidRequest(f"{reason[0].upper()}{reason[1:]}.", field=field) from error
    if len(prompt) > limit:
        raise InvalidRequest(
            f"The prompt has {len(prompt)} characters; shorten it to {limit}.", field=field
        )
    return prompt


def checked_key(key: str | None) -> str | None:
    """Raises ``InvalidRequest`` for an Idempotency-Key that cannot be one."""
    if key is None:
        return None
    if not key.strip() or len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise InvalidRequest(
            f"The Idempotency-Key must have 1 to {MAX_KEY_CHARS} printable characters.",
            field="Idempotency-Key",
        )
    return key
