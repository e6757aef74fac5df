"""Where Cloud Scheduler calls: mend what was lost. One machine has a timer in its worker instead."""

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from services.api.context import api
from services.api.replies import as_json
from services.api.specification import refusals
from shared.errors import UntrustedCaller
from shared.schemas import Swept

surface = APIBlueprint(
    "sweep",
    __name__,
    abp_tags=[Tag(name="Operations", description="Is it up, is it ready, what does it do.")],
    operation_id_callback=lambda *, name, **_: name,
)


@surface.post(
    "/internal/sweep",
    responses={200: Swept, **refusals(403, 503)},
    description="With an OIDC token of the service account that the configuration names.",
)
def sweep() -> Response:
    """Mend what was lost; for Cloud Scheduler only."""
    wiring = api().wiring
    if wiring.scheduler is None:
        raise UntrustedCaller("no scheduler is configured")
    wiring.scheduler.check(request.headers.get("Authorization"))
    done = wiring.lifecycle.sweep()
    return as_json(Swept.model_validate(vars(done)))
