"""A job followed live: Server-Sent Events, gone on with where a connection was lost."""

import re
from collections.abc import Iterator
from contextlib import closing

import structlog
from flask import Flask, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from services.api import errors
from services.api.context import api, owner
from services.api.details import details_of
from services.api.event_source import CONTENT_TYPE
from services.api.examples import EVENT, EVENTS
from services.api.job_stream import JobStream
from services.api.parameters import JobPath, Parameters
from services.api.specification import refusals
from shared.errors import InvalidRequest, PromptreelError
from shared.job import Job
from shared.schemas import JobDetails

log = structlog.get_logger("promptreel.events")

surface = APIBlueprint(
    "events",
    __name__,
    url_prefix="/v1/jobs",
    abp_tags=[Tag(name="Jobs", description="Submit, poll, fetch, cancel.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)

_LINE_NUMBER = re.compile(r"[0-9]{1,19}")
_NUMBER = {"pattern": f"^{_LINE_NUMBER.pattern}$"}

# OpenAPI 3.1 has no way to tell of a stream but to tell of one event, as its reader has it.
_EVENT = {
    "title": "Event",
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["job", "log", "end"]},
        "id": {"type": "string", "description": "To go on after, as `Last-Event-ID`.", **_NUMBER},
        "data": {
            "type": "string",
            "description": 'JSON: the job as `GET /v1/jobs/{job_id}` has it, or `{"line"}` of a `log`.',
        },
    },
}


class EventHeaders(Parameters):
    last_event_id: str | None = Field(
        default=None,
        alias="Last-Event-ID",
        json_schema_extra={**_NUMBER},
        description="The id of the last event you have: only the log lines after it are sent.",
    )


class EventQuery(Parameters):
    after: str | None = Field(
        default=None,
        json_schema_extra={**_NUMBER},
        description="As `Last-Event-ID`, which counts if both are given.",
    )


@surface.get(
    "/<job_id>/events",
    responses={
        200: {
            "description": f"The events; the stream closes after `end`.\n\n```\n{EVENTS}```",
            "content": {CONTENT_TYPE: {"schema": _EVENT, "example": dict(EVENT)}},
        },
        **refusals(400, 401, 404, 503),
    },
    description=(
        "Server-Sent Events. `job` is the job, at first and at every change; `log` is a line of its "
        "log; `end` is the job once it has ended, and nothing follows. An event's id is the number of "
        "the last log line sent. A stream that closes without `end` was cut: connect again with "
        "`Last-Event-ID`, as browsers do, and no line is lost or sent twice."
    ),
)
def stream_events(path: JobPath, header: EventHeaders, query: EventQuery) -> Response:
    """Follow a job live."""
    line = _line(header, query)
    job = api().wiring.lifecycle.get(path.job_id, owner=owner())
    seat = api().waiting_room.take_seat(job.owner)
    if seat is None:
        return errors.no_seat(
            "Too many callers wait or follow their jobs. Try again in a few seconds, or poll."
        )
    app = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's own way
    told = _told(app, job, line)
    response = Response(told, content_type=CONTENT_TYPE, headers={"X-Accel-Buffering": "no"})
    # However it ends, and also if nobody ever asks for the first event.
    response.call_on_close(seat.leave)
    return response


def _told(app: Flask, job: Job, line: int) -> Iterator[bytes]:
    """The request is over when the first event is asked for: nothing here knows of it."""

    def describe(job: Job) -> JobDetails:
        with app.app_context():
            return details_of(job)

    with app.app_context():
        room, store = api().waiting_room, api().wiring.store
    try:
        with closing(room.follow(job.id)) as jobs:
            yield from JobStream(jobs=jobs, store=store, describe=describe, line=line).events()
    except PromptreelError as error:
        # Too late for an error's reply: whoever connects again is told.
        log.warning("stream cut", job_id=job.id, code=error.code, reason=error.message)


def _line(header: EventHeaders, query: EventQuery) -> int:
    """After which line to go on; 0: from the first that is kept."""
    given = {"Last-Event-ID": header.last_event_id, "after": query.after}
    said = {name: text for name, text in given.items() if text is not None}
    for name, text in said.items():
        if _LINE_NUMBER.fullmatch(text) is None:
            raise InvalidRequest(f"`{name}` must be the id of an event, a number.", field=name)
    return int(next(iter(said.values()), 0))
