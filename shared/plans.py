"""What an owner may have: plans are named in the configuration, and so is who has which."""

from shared.admission import AdmissionLimits
from shared.config import Config
from shared.config_checks import FREE
from shared.config_sections import Plan
from shared.errors import InvalidRequest


def plan_of(owner: str, config: Config, *, of_key: str | None = None) -> tuple[str, Plan]:
    """The plan of the key, else the owner's, and its name; whoever has none has the free one.

    A key may name a plan that the configuration has no more: then it brings none.
    """
    name = of_key if of_key in config.plans else config.plan_of_owner.get(owner, FREE)
    return name, config.plans[name]


def image_limits(plan: Plan) -> AdmissionLimits:
    return AdmissionLimits(
        images_in_flight_per_owner=plan.images_in_flight,
        images_per_month_per_owner=plan.images_per_month,
    )


def check_image_model(model: str, plan: Plan) -> None:
    """Raises ``InvalidRequest`` for a model that the plan does not have."""
    if model not in plan.image_models:
        offered = ", ".join(plan.image_models) or "no image model"
        raise InvalidRequest(f"Your plan has {offered}. Choose one of its models.", field="model")
