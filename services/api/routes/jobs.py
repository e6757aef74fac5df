"""Surface B: submit a prompt, poll the job or all of them, fetch the file."""

from typing import Annotated, Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from services.api.context import api, owner
from services.api.details import all_details_of, details_of
from services.api.links import artifact_of, seconds_left, sign
from services.api.parameters import CreateHeaders, JobPath, Parameters, submission
from services.api.replies import accepted, as_json
from services.api.specification import refusals
from shared.config import build_effective_config
from shared.errors import InvalidRequest
from shared.job import Job, JobStatus
from shared.schemas import (
    ArtifactLink,
    JobAccepted,
    JobDetails,
    JobList,
    JobLogs,
    JobRequest,
    Ok,
)

surface = APIBlueprint(
    "jobs",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="Jobs", description="Submit, poll, fetch, cancel.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)

_TAIL_LINES = 200
# Several may come in one, with commas between: what is none of them is refused below.
_StatusName = Annotated[str, Field(json_schema_extra={"enum": [*JobStatus]})]


class ListQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100, description="How many jobs at most.")
    after: str | None = Field(
        default=None, description="The id of a job: those that come after it; `last_id` of a page."
    )
    order: Literal["asc", "desc"] = Field(
        default="desc", description="By creation: `desc` has the newest first."
    )
    status: list[_StatusName] = Field(
        default_factory=list,
        description="Only jobs with this status; several by commas, or by giving it several times.",
    )


class ArtifactQuery(Parameters):
    expires_in: int | None = Field(
        default=None,
        description=(
            "Seconds the link lives; by default the configuration's. It ends with the retention of "
            "the file, whatever is asked for."
        ),
    )
    redirect: bool = Field(default=False, description="Answer 307 to the file instead of JSON.")
    kind: Literal["video", "poster", "spritesheet", "seams"] = Field(
        default="video",
        description="`seams` is there for a video of several segments: a sheet of the frames around them.",
    )


class LogQuery(Parameters):
    tail: int | None = Field(
        default=None, description=f"How many of the newest lines; {_TAIL_LINES} by default."
    )


@surface.post("", responses={202: JobAccepted, **refusals(400, 401, 409, 413, 415, 429, 503)})
def create_job(header: CreateHeaders, body: JobRequest) -> Response:
    """Submit a prompt."""
    effective = build_effective_config(api().wiring.config, http=body.model_dump())
    return accepted(
        api().wiring.lifecycle.submit(submission(header, body, prompt=effective.prompt))
    )


@surface.get("", responses={200: JobList, **refusals(400, 401, 404, 503)})
def list_jobs(query: ListQuery) -> Response:
    """List your jobs."""
    page = api().wiring.lifecycle.list(
        owner(),
        limit=query.limit,
        after=query.after,
        newest_first=query.order == "desc",
        statuses=_statuses(query.status),
    )
    last_id = page.jobs[-1].id if page.jobs else None
    data = all_details_of(page.jobs)
    return as_json(JobList(data=data, has_more=page.has_more, last_id=last_id))


@surface.get("/<job_id>", responses={200: JobDetails, **refusals(401, 404, 503)})
def read_job(path: JobPath) -> Response:
    """Read a job's status."""
    return as_json(details_of(_job(path)))


@surface.get(
    "/<job_id>/artifact",
    responses={
        200: ArtifactLink,
        307: {"description": "To the file, with `redirect=true`.", "headers": {}},
        **refusals(400, 401, 404, 410, 503),
    },
)
def read_artifact(path: JobPath, query: ArtifactQuery) -> Response:
    """Get a link to the finished video, or to a picture of it."""
    seconds = _link_seconds(query.expires_in)
    job = _job(path)
    file = artifact_of(job, query.kind)
    link = sign(job, file, expires_in_seconds=seconds)
    if query.redirect:
        return Response(status=307, headers={"Location": link.url})
    return as_json(ArtifactLink(gcs_uri=file.uri, url=link.url, expires_in=seconds_left(link)))


@surface.get("/<job_id>/logs", responses={200: JobLogs, **refusals(400, 401, 404, 503)})
def read_logs(path: JobPath, query: LogQuery) -> Response:
    """Read the newest lines of a job's log."""
    limit = api().wiring.config.limits.log_lines_per_job
    tail = min(_TAIL_LINES, limit) if query.tail is None else query.tail
    _check_range("tail", tail, limit)
    return as_json(JobLogs(lines=list(api().wiring.store.tail_log(_job(path).id, tail=tail))))


@surface.post("/<job_id>/cancel", responses={200: Ok, **refusals(401, 404, 409, 503)})
def cancel_job(path: JobPath) -> Response:
    """Cancel a job."""
    api().wiring.lifecycle.cancel(path.job_id, owner=owner())
    return as_json(Ok())


def _job(path: JobPath) -> Job:
    return api().wiring.lifecycle.get(path.job_id, owner=owner())


def _statuses(asked: list[str]) -> set[JobStatus] | None:
    """None: any."""
    if not asked:
        return None
    try:
        return {JobStatus(name.strip()) for names in asked for name in names.split(",")}
    except ValueError:
        known = ", ".join(f"`{status.value}`" for status in JobStatus)
        message = f"`status` must be one of {known}, or some of them with commas between."
        raise InvalidRequest(message, field="status") from None


def _link_seconds(asked: int | None) -> int:
    artifacts = api().wiring.config.artifacts
    if asked is None:
        return artifacts.link_seconds
    _check_range("expires_in", asked, artifacts.link_max_seconds)
    return asked


def _check_range(field: str, number: int, limit: int) -> None:
    if not 1 <= number <= limit:
        raise InvalidRequest(f"`{field}` must be 1 to {limit}.", field=field)
