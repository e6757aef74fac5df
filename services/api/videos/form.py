"""A request for a video in the words of the `openai` client, from a JSON body or a multipart form."""

from hashlib import sha256

from pydantic import ValidationError

from services.api.bodies import PICTURE, read_body, starting_picture
from services.api.context import owner, request_id, traceparent
from services.api.errors import InvalidFields, refuse_fields
from services.api.examples import EXAMPLES
from services.api.videos.schemas import VideoRemix, VideoRequest
from shared.job import Job
from shared.submission import Submission

_FILE_FIELD = "input_reference"
_FIELDS = VideoRequest.model_json_schema()

# As the OpenAPI page shows it: the same fields twice, once with a picture to begin with.
REQUEST_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _FIELDS, "example": EXAMPLES["VideoRequest"]},
        "multipart/form-data": {
            "schema": _FIELDS | {"properties": _FIELDS["properties"] | {_FILE_FIELD: PICTURE}}
        },
    },
}


def read_submission(idempotency_key: str | None) -> Submission:
    """What the caller of this request asks for. Raises ``InvalidRequest``."""
    received = read_body((_FILE_FIELD,))
    if _FILE_FIELD in received.fields:
        raise InvalidFields([(_FILE_FIELD, "must be a file of multipart/form-data")])
    content = received.files.get(_FILE_FIELD)
    try:
        asked = VideoRequest.model_validate(received.fields)
    except ValidationError as error:
        refuse_fields(error)
        raise
    return Submission(
        owner=owner(),
        prompt=asked.prompt,
        request_id=request_id(),
        # A key of another surface is none for this one, even if the bodies are alike.
        body={"surface": "videos"} | asked.model_dump() | _digest(content),
        model=asked.model,
        duration_seconds=asked.seconds,
        frames=asked.num_frames,
        fps=asked.fps,
        size=asked.size,
        preset=asked.quality,
        steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        seed=asked.seed,
        negative_prompt=asked.negative_prompt,
        picture=None if content is None else starting_picture(_FILE_FIELD, content),
        idempotency_key=idempotency_key,
        traceparent=traceparent(),
    )


def _digest(content: bytes | None) -> dict[str, str]:
    return {} if content is None else {_FILE_FIELD: sha256(content).hexdigest()}


def remix_of(source: Job, asked: VideoRemix, idempotency_key: str | None) -> Submission:
    """The same video again, but for what it shows."""
    return Submission(
        owner=owner(),
        prompt=asked.prompt,
        request_id=request_id(),
        body={"surface": "videos", "prompt": asked.prompt, "remix_of": source.id},
        remix_of=source,
        idempotency_key=idempotency_key,
        traceparent=traceparent(),
    )
