"""Surface C: a prompt, and perhaps pictures, become a picture that a provider elsewhere makes."""

from datetime import datetime
from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from services.api.context import api, owner
from services.api.errors import fault_of
from services.api.images.form import REQUEST_BODY, read_submission
from services.api.images.words import WORDS, code_of, register_words
from services.api.links import sign
from services.api.parameters import CreateHeaders
from services.api.replies import as_json
from services.api.specification import refusals
from shared.errors import Fault
from shared.images.outputs import render_id
from shared.images.schemas import (
    GenerationAccepted,
    GenerationChange,
    GenerationSettings,
    GenerationView,
    Variant,
)
from shared.job import ImageRequest, Job, JobStatus
from shared.schemas import JobFailure

surface = APIBlueprint(
    "generations",
    __name__,
    url_prefix="/api/v1/generations",
    abp_tags=[Tag(name="Images", description="Pictures that a provider elsewhere makes.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)
register_words(surface)


class GenerationPath(BaseModel):
    generation_id: str = Field(description="The generation's id, as the create call returned it.")


@surface.post(
    "",
    responses={
        202: GenerationAccepted,
        **refusals(400, 401, 409, 413, 415, 422, 429, 501, 502, 503),
    },
    openapi_extensions={"requestBody": REQUEST_BODY},
)
def create_generation(header: CreateHeaders) -> Response:
    """Order a picture."""
    job = api().wiring.generations.submit(read_submission(header.idempotency_key))
    response = as_json(GenerationAccepted(**_accepted(job)), 202)
    response.headers["Location"] = f"{surface.url_prefix}/{job.id}"
    return response


@surface.get("/<generation_id>", responses={200: GenerationView, **refusals(401, 404, 503)})
def read_generation(path: GenerationPath) -> Response:
    """Read how a picture is getting on, and where it is."""
    return as_json(_view(api().wiring.generations.get(path.generation_id, owner=owner())))


@surface.patch(
    "/<generation_id>",
    responses={200: GenerationView, **refusals(400, 401, 404, 409, 413, 415, 503)},
)
def change_generation(path: GenerationPath, body: GenerationChange) -> Response:  # noqa: ARG001 - there is one action
    """Cancel a picture that is in progress."""
    return as_json(_view(api().wiring.generations.cancel(path.generation_id, owner=owner())))


@surface.delete(
    "/<generation_id>",
    responses={204: {"description": "Its pictures are gone."}, **refusals(401, 404, 409, 503)},
)
def delete_generation(path: GenerationPath) -> Response:
    """Delete the pictures of a generation that has ended."""
    api().wiring.generations.delete(path.generation_id, owner=owner())
    return Response(status=204)


def _accepted(job: Job) -> dict[str, Any]:
    request = job.request
    if not isinstance(request, ImageRequest) or job.remote is None:
        raise AssertionError("a video is no generation")
    settings = GenerationSettings(
        mode=request.mode.value, model=request.model, aspect_ratio=request.aspect_ratio
    )
    return {
        "id": job.id,
        "prediction_id": job.remote.prediction_id,
        "status": WORDS[job.status],
        "settings": settings,
    }


def _view(job: Job) -> GenerationView:
    made = job.status is JobStatus.FINISHED
    return GenerationView(
        **_accepted(job),
        created_at=job.created_at,
        finished_at=job.finished_at,
        render_id=render_id(job) if made else None,
        variants=_variants(job) if made else [],
        deleted_at=_deleted_at(job),
        error=_failure(job),
    )


def _variants(job: Job) -> list[Variant]:
    if job.has_expired_artifacts(api().wiring.lifecycle.now()):
        return []
    seconds = api().wiring.config.artifacts.link_seconds
    made = []
    pictures = [file for file in job.artifacts if file.kind == "image"]
    thumbnails = [file for file in job.artifacts if file.kind == "thumbnail"]
    for index, (picture, thumbnail) in enumerate(zip(pictures, thumbnails, strict=True)):
        link = sign(job, picture, expires_in_seconds=seconds)
        made.append(
            Variant(
                index=index,
                url=link.url,
                thumbnail_url=sign(job, thumbnail, expires_in_seconds=seconds).url,
                width=picture.width,
                height=picture.height,
                expires_at=link.expires_at,
            )
        )
    return made


def _deleted_at(job: Job) -> datetime | None:
    """When somebody deleted them, or their retention was over."""
    if job.artifacts_expired_at is not None:
        return job.artifacts_expired_at
    expired = job.has_expired_artifacts(api().wiring.lifecycle.now())
    return job.artifacts_expire_at if expired else None


def _failure(job: Job) -> JobFailure | None:
    # A job whose pictures are fetched again remembers why that failed; it has not failed itself.
    if job.error is None or job.status is not JobStatus.FAILED:
        return None
    requesters_fault = fault_of(job.error.code) is Fault.REQUESTER
    return JobFailure(
        code=code_of(job.error.code, requesters_fault=requesters_fault), message=job.error.message
    )
