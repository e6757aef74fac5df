"""Where providers tell how an order is getting on. They sign what they send; no key is asked for."""

import structlog
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from services.api.context import api
from services.api.images.webhook import read_webhook
from services.api.images.words import register_words
from services.api.parameters import Parameters
from services.api.replies import as_json
from services.api.specification import refusals
from shared.adapters.images.replicate import PREDICTION_ID, PREDICTION_STATUSES, prediction_of
from shared.errors import JobNotFound, MalformedBody
from shared.schemas import Ok

log = structlog.get_logger("promptreel.images")

surface = APIBlueprint(
    "webhooks",
    __name__,
    url_prefix="/api/v1/webhooks",
    abp_tags=[Tag(name="Images", description="Pictures that a provider elsewhere makes.")],
    operation_id_callback=lambda *, name, **_: name,
)
register_words(surface)

# What is read of it; there is more.
_PREDICTION = {
    "title": "Prediction",
    "type": "object",
    "required": ["id", "status"],
    "properties": {
        "id": {"type": "string", "pattern": f"^{PREDICTION_ID.pattern}$"},
        "status": {"type": "string", "enum": list(PREDICTION_STATUSES)},
        "output": {"description": "The URL of what was made, or several."},
        "error": {"description": "What went wrong."},
    },
}
_BODY = {
    "description": "A prediction, as Replicate sends it, with the headers of Standard Webhooks.",
    "content": {"application/json": {"schema": _PREDICTION}},
    "required": True,
}


class WebhookQuery(Parameters):
    job: str = Field(default="", description="The generation's id, as the provider was given it.")


@surface.post(
    "/replicate",
    responses={200: Ok, **refusals(400, 403, 413, 503)},
    openapi_extensions={"requestBody": _BODY},
    description="Signed with the secret of the configuration, as Standard Webhooks are.",
)
def replicate_webhook(query: WebhookQuery) -> Response:
    """Hear from Replicate; sent again, it changes nothing."""
    payload = read_webhook(
        request.get_data(), dict(request.headers), api().wiring.config.images.replicate
    )
    try:
        prediction = prediction_of(payload)
    except ValueError as error:
        raise MalformedBody(f"The webhook tells of no prediction: {error}.") from None
    about = {"jobId": query.job, "predictionId": prediction.id, "status": prediction.status.value}
    log.info("webhook received", **about)
    try:
        job = api().wiring.generations.hear(query.job, prediction)
    except JobNotFound:
        # Sent again, it would be as unknown; it may be forgotten since.
        log.warning("webhook of an unknown job", **about)
        return as_json(Ok())
    log.info("webhook processed", ownerId=job.owner, **(about | {"status": job.status.value}))
    return as_json(Ok())
