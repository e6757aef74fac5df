"""The files themselves: by a signed link, or for the owner by the job's id."""

from contextlib import ExitStack

from flask import Response, request, send_file
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel, Field

from services.api import errors
from services.api.context import api, owner
from services.api.gate import is_signed
from services.api.links import artifact_of, sign
from services.api.parameters import Parameters
from services.api.specification import refusals
from shared.errors import JobNotFound

surface = APIBlueprint(
    "outputs",
    __name__,
    abp_tags=[Tag(name="Outputs", description="Fetch a file.")],
    operation_id_callback=lambda *, name, **_: name,
)

# By the ending of the file: what a client is told decides how it plays it.
_CONTENT_TYPES = {
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".webp": "image/webp",
}


class OutputPath(BaseModel):
    clip_id: str = Field(description="A job's id; in a signed link, the file's name in the store.")


class OutputQuery(Parameters):
    expires: str = Field(default="", description="Of a signed link: until when, in Unix seconds.")
    key_id: str = Field(default="", description="Of a signed link: which key has signed it.")
    signature: str = Field(default="", description="Of a signed link.")


@surface.get(
    "/outputs/<path:clip_id>",
    security=[{"key": []}, {}],
    responses={
        200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        206: {
            "description": "The part that `Range` asked for.",
            "content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}},
        },
        302: {"description": "To a signed link: the path was a job's id."},
        304: {"description": "The copy the client has is good."},
        **refusals(401, 403, 404, 410, 416, 503),
    },
)
def output(path: OutputPath, query: OutputQuery) -> Response:
    """Fetch a file by a signed link, or be sent to it."""
    if is_signed():
        return _serve(path.clip_id, query)
    job = api().wiring.lifecycle.get(path.clip_id, owner=owner())
    lifetime = api().wiring.config.artifacts.link_seconds
    link = sign(job, artifact_of(job), expires_in_seconds=lifetime)
    return Response(status=302, headers={"Location": link.url})


def _serve(key: str, query: OutputQuery) -> Response:
    wiring = api().wiring
    if wiring.served_files is None:
        raise JobNotFound  # the links of this installation lead elsewhere
    file = wiring.served_files.open_link(
        key,
        method=request.method,
        expires=query.expires,
        key_id=query.key_id,
        signature=query.signature,
        now=wiring.lifecycle.now(),
    )
    over = api().outgoing.begin(request.remote_addr or "unknown")
    if over is None:
        return errors.no_seat("Too many files are being fetched. Try again in a few seconds.")
    with ExitStack() as place:
        place.callback(over)
        response = send_file(  # raises 416
            file,
            mimetype=_CONTENT_TYPES.get(file.suffix, "application/octet-stream"),
            conditional=True,
            etag=True,
        )
        # Passed through as it is, the file would be closed and nobody told.
        response.direct_passthrough = False
        response.call_on_close(place.pop_all().close)
    # Only for whoever holds the link; and a player may seek without fetching it all again.
    response.headers["Cache-Control"] = "private"
    response.headers["Accept-Ranges"] = "bytes"
    return response
