"""Surface A: one call that submits a job and waits for its video."""

import structlog
from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from services.api import errors
from services.api.context import api
from services.api.links import artifact_of, sign
from services.api.parameters import CreateHeaders, submission
from services.api.replies import accepted, as_json
from services.api.specification import refusals
from shared.catalog import find_model
from shared.errors import (
    BodyTooLarge,
    Fault,
    InvalidRequest,
    MalformedBody,
    UnsupportedContentType,
)
from shared.job import Job, JobError, JobStatus, RenderSummary
from shared.schemas import GenerateMetadata, GenerateReply, GenerateRequest, JobAccepted
from shared.telemetry import hash_prompt

log = structlog.get_logger("promptreel.generate")

surface = APIBlueprint(
    "generate",
    __name__,
    abp_tags=[Tag(name="Generate", description="Wait for one video.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)

_FAILED_STATUSES = {Fault.REQUESTER: 422, Fault.OPERATOR: 500, Fault.NOBODY: 502}


@surface.post(
    "/generate",
    responses={
        200: GenerateReply,
        202: JobAccepted,
        **refusals(400, 401, 409, 410, 413, 415, 422, 429, 502, 503),
    },
    description=(
        "Submits a job and waits for it. Whoever waits longer than `generate.wait_seconds`, or "
        "comes while too many wait, gets 202 with the job to poll at `Location`."
    ),
)
def generate(header: CreateHeaders, body: GenerateRequest) -> Response:
    """Make a video and wait for it."""
    job = api().wiring.lifecycle.submit(
        submission(
            header,
            body,
            prompt=body.prompt,
            duration_seconds=body.duration,
            resolution=body.resolution,
        )
    )
    job = api().waiting_room.wait(job)
    _tell(job)
    return _reply(job)


@surface.errorhandler(InvalidRequest)
def refuse(error: InvalidRequest) -> Response:
    """Wrong fields are 422 on this surface; a body that cannot be read stays what it is."""
    if isinstance(error, (BodyTooLarge, MalformedBody, UnsupportedContentType)):
        return errors.reply_to(error)
    return errors.reply_to(error, status=422)


def _reply(job: Job) -> Response:
    match job.status:
        case JobStatus.FINISHED:
            return as_json(_finished(job))
        case JobStatus.FAILED:
            error = job.error or JobError(code="failed", message="The job failed.")
            status = _FAILED_STATUSES[errors.fault_of(error.code)]
            return errors.reply(status, code=error.code, message=error.message)
        case JobStatus.CANCELED:
            message = "The job was canceled while you waited. Submit it again if you want it."
            return errors.reply(409, code="job_canceled", message=message)
        case _:
            return accepted(job)


def _finished(job: Job) -> GenerateReply:
    video = artifact_of(job)
    link = sign(job, video, expires_in_seconds=api().wiring.config.artifacts.link_seconds)
    # A public file has no link that expires: it is there until its retention ends.
    expires_at = link.expires_at or job.artifacts_expire_at
    if job.summary is None or expires_at is None:
        raise AssertionError("a finished job has a summary, and files that expire")
    return GenerateReply(
        output_url=link.url,
        expires_at=expires_at,
        metadata=_metadata(job, job.summary),
    )


def _metadata(job: Job, summary: RenderSummary) -> GenerateMetadata:
    started_at = job.started_at or job.created_at
    return GenerateMetadata(
        prompt=job.request.prompt,
        duration=job.render.duration_seconds,
        generation_time_seconds=summary.generation_seconds,
        model=find_model(job.request.model).backend,
        request_id=job.request_id,
        job_id=job.id,
        checkpoint=job.request.model,
        resolution=job.render.resolution,
        size=summary.output_size,
        native_size=summary.native_size,
        frames=summary.frames,
        fps=summary.fps,
        seed=job.render.seed,
        device=summary.device,
        queue_seconds=(started_at - job.created_at).total_seconds(),
        phase_seconds=dict(summary.phase_seconds),
    )


def _tell(job: Job) -> None:
    log.info(
        "generation answered",
        job_id=job.id,
        outcome=job.status.value,
        generation_time_seconds=job.summary.generation_seconds if job.summary else None,
        prompt_hash=hash_prompt(api().wiring.lifecycle.prompt_hash_key, job.request.prompt),
    )
