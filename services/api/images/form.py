"""A request for a picture, from a JSON body or a multipart form with files."""

from hashlib import sha256

from pydantic import ValidationError

from services.api.bodies import PICTURE, read_body, starting_picture
from services.api.context import owner, plan, request_id, traceparent
from services.api.errors import refuse_fields
from services.api.examples import EXAMPLES
from shared.images.schemas import GenerationRequest
from shared.images.submission import INPUT_FIELDS, ImageSubmission
from shared.job import ImageMode

_FIELDS = GenerationRequest.model_json_schema()

# As the OpenAPI page shows it: the same fields twice, once with files beside them.
REQUEST_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": _FIELDS, "example": EXAMPLES["GenerationRequest"]},
        "multipart/form-data": {
            "schema": _FIELDS
            | {"properties": _FIELDS["properties"] | dict.fromkeys(INPUT_FIELDS, PICTURE)}
        },
    },
}


def read_submission(idempotency_key: str | None) -> ImageSubmission:
    """What the caller of this request asks for, its pictures checked and without metadata.

    Raises ``InvalidRequest``.
    """
    received = read_body(INPUT_FIELDS)
    try:
        asked = GenerationRequest.model_validate(received.fields)
    except ValidationError as error:
        refuse_fields(error)
        raise
    digests = {name: sha256(content).hexdigest() for name, content in received.files.items()}
    return ImageSubmission(
        owner=owner(),
        plan=plan(),
        prompt=asked.prompt,
        request_id=request_id(),
        body=asked.model_dump() | digests,
        mode=ImageMode(asked.mode) if asked.mode else None,
        aspect_ratio=asked.aspect_ratio,
        model=asked.model,
        inputs={name: starting_picture(name, content) for name, content in received.files.items()},
        idempotency_key=idempotency_key,
        traceparent=traceparent(),
    )
