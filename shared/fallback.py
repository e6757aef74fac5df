"""What becomes of a job whose backend fails it: may another one try, and what is it asked?"""

from dataclasses import replace
from datetime import datetime

from shared.catalog import find_model
from shared.config import Config
from shared.errors import BackendUnavailable, InvalidRequest, PromptreelError
from shared.job import Job, JobError, RenderRequest
from shared.submission import check_beginning, preset_of
from shared.transitions import fail, fall_back, retry


def fail_or_hand_over(
    job: Job, *, token: str, error: PromptreelError, config: Config, now: datetime
) -> Job:
    """A transition: to the fallback backend, back to the queue, or to its end. Raises ``LeaseLost``."""
    reason = JobError(code=error.code, message=error.message)
    request = fallback_request(job, error, config)
    if request is not None:
        return fall_back(job, token=token, error=reason, request=request, now=now)
    rule = retry if error.retry else fail
    return rule(job, token=token, error=reason, now=now)


def fallback_request(job: Job, error: PromptreelError, config: Config) -> RenderRequest | None:
    """The job's request to the fallback backend; None if that is not to try, or not yet.

    It takes over at once when the first backend says that it is not available, having asked it again
    has not helped then; and when all attempts have failed in ways that nobody could help.
    """
    if config.fallback_backend is None or job.fallen_back_from is not None or not error.retry:
        return None
    if not isinstance(error, BackendUnavailable) and job.attempt < job.max_attempts:
        return None
    model, request = find_model(config.model_of(config.fallback_backend)), job.render
    if find_model(request.model).backend == model.backend:
        return None
    try:
        model.check_duration(request.duration_seconds)
        model.output_size(request.resolution)
        if request.first_frame is not None:
            check_beginning(model, preset_of(model, config), config)
    except InvalidRequest:
        return None
    return replace(
        request,
        model=model.name,
        preset=preset_of(model, config),
        frames=None,
        steps=None,
        guidance_scale=None,
    )
