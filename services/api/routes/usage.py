"""What an owner's plan has, and what is used of it."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from services.api.context import api, owner, plan
from services.api.images.words import register_words
from services.api.replies import as_json
from services.api.specification import refusals
from shared.images.schemas import UsageView

surface = APIBlueprint(
    "usage",
    __name__,
    url_prefix="/api/v1/usage",
    abp_tags=[Tag(name="Images", description="Pictures that a provider elsewhere makes.")],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)
register_words(surface)


@surface.get("", responses={200: UsageView, **refusals(401, 503)})
def read_usage() -> Response:
    """Read how many images are left this month."""
    usage = api().wiring.generations.usage(owner(), plan_of_key=plan())
    return as_json(
        UsageView(
            plan=usage.plan,
            month=usage.month,
            limit=usage.limit,
            used=usage.used,
            remaining=usage.remaining,
            resets_at=usage.resets_at,
        )
    )
