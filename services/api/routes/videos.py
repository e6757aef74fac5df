"""Surface D: videos in the words of the `openai` client, which works here as it is."""

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from services.api.context import api, owner
from services.api.links import artifact_of, sign
from services.api.parameters import CreateHeaders, Parameters
from services.api.replies import as_json
from services.api.specification import refusals
from services.api.videos.form import REQUEST_BODY, read_submission, remix_of
from services.api.videos.schemas import (
    Variant,
    Video,
    VideoDeleted,
    VideoErrorReply,
    VideoPage,
    VideoRemix,
)
from services.api.videos.view import page_of, video_of
from services.api.videos.words import register_words
from shared.job import Job

surface = APIBlueprint(
    "videos",
    __name__,
    url_prefix="/v1/videos",
    abp_tags=[Tag(name="Videos", description="For the `openai` client.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)
register_words(surface)

_POLL_AFTER_MS = 1000  # as often as a worker reports progress
_ARTIFACTS = {"video": "video", "thumbnail": "poster", "spritesheet": "spritesheet"}


class VideoPath(BaseModel):
    video_id: str = Field(description="The video's id: that of its job, whatever made it.")


class PageQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100)
    after: str | None = Field(default=None, description="The last id of the page before.")
    order: Literal["asc", "desc"] = Field(default="desc", description="`desc`: the newest first.")


class ContentQuery(Parameters):
    variant: Variant = "video"


@surface.post(
    "",
    responses={200: Video, **refusals(400, 401, 409, 429, 503, shape=VideoErrorReply)},
    openapi_extensions={"requestBody": REQUEST_BODY},
)
def create_video(header: CreateHeaders) -> Response:
    """Order a video."""
    return _reply(api().wiring.lifecycle.submit(read_submission(header.idempotency_key)))


@surface.get("", responses={200: VideoPage, **refusals(400, 401, 404, 503, shape=VideoErrorReply)})
def list_videos(query: PageQuery) -> Response:
    """List your videos."""
    newest_first = query.order == "desc"
    page = api().wiring.lifecycle.list(
        owner(), limit=query.limit, after=query.after, newest_first=newest_first
    )
    return as_json(page_of(page))


@surface.get(
    "/<video_id>", responses={200: Video, **refusals(401, 404, 503, shape=VideoErrorReply)}
)
def read_video(path: VideoPath) -> Response:
    """Read how a video is getting on."""
    return _reply(_job(path))


@surface.delete(
    "/<video_id>", responses={200: VideoDeleted, **refusals(401, 404, 503, shape=VideoErrorReply)}
)
def delete_video(path: VideoPath) -> Response:
    """Stop a video, and delete it with its files."""
    api().wiring.lifecycle.delete(path.video_id, owner=owner())
    return as_json(VideoDeleted(id=path.video_id))


@surface.get(
    "/<video_id>/content",
    responses={
        302: {"description": "To the file: a signed link, which needs no key."},
        **refusals(400, 401, 404, 503, shape=VideoErrorReply),
    },
)
def read_content(path: VideoPath, query: ContentQuery) -> Response:
    """Fetch a video, or a picture of it."""
    job = _job(path)
    file = artifact_of(job, _ARTIFACTS[query.variant])
    lifetime = api().wiring.config.artifacts.link_seconds
    link = sign(job, file, expires_in_seconds=lifetime)
    return Response(status=302, headers={"Location": link.url})


@surface.post(
    "/<video_id>/remix",
    responses={200: Video, **refusals(400, 401, 404, 409, 429, 503, shape=VideoErrorReply)},
)
def remix_video(path: VideoPath, header: CreateHeaders, body: VideoRemix) -> Response:
    """Order a video again, with another prompt."""
    submission = remix_of(_job(path), body, header.idempotency_key)
    return _reply(api().wiring.lifecycle.submit(submission))


def _job(path: VideoPath) -> Job:
    return api().wiring.lifecycle.get(path.video_id, owner=owner())


def _reply(job: Job) -> Response:
    response = as_json(video_of(job))
    if not job.status.is_terminal:
        response.headers["openai-poll-after-ms"] = str(_POLL_AFTER_MS)
    return response
