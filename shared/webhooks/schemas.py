"""What is said over HTTP of completion webhooks."""

from datetime import datetime
from typing import Literal

from pydantic import Field, StrictStr

from shared.schemas import Reply, Request

DeliveryStatus = Literal["pending", "delivered", "failed"]


class EndpointRequest(Request):
    url: StrictStr = Field(
        min_length=1,
        max_length=2048,
        description="Where to tell you, `https://…`, at a public address.",
    )


class EndpointView(Reply):
    url: str
    created_at: datetime | None = Field(
        description="Null for one that stands in the configuration of this installation."
    )
    disabled_at: datetime | None = Field(
        description=(
            "When its receiver answered 410 Gone: nothing is sent there any more. `PUT` it again to "
            "be told again."
        )
    )
    old_secret_until: datetime | None = Field(
        description="Until then, the secret before the last one signs too."
    )


class EndpointSecret(EndpointView):
    secret: str | None = Field(
        description="`whsec_…`: what webhooks are signed with. Shown when it is made, never again."
    )


class AttemptView(Reply):
    at: datetime
    seconds: float
    status: int | None = Field(description="Of HTTP; null if there was no answer.")
    error: str | None = Field(description="Why it does not count; null if it does.")


class DeliveryView(Reply):
    """One event on its way to you."""

    id: str = Field(description="The event's: what its `webhook-id` says at every attempt.")
    job_id: str
    type: str = Field(
        description="`video.completed` or `video.failed`, `image.completed` or `image.failed`."
    )
    status: DeliveryStatus = Field(
        description="`failed`: given up after the last retry, or for want of an endpoint."
    )
    created_at: datetime = Field(description="When the job ended.")
    next_attempt_at: datetime | None = Field(
        description="Not before then; null if it may be sent at any moment, or is not sent again."
    )
    attempts: list[AttemptView] = Field(description="The newest, oldest of them first.")


class DeliveryList(Reply):
    data: list[DeliveryView]
    has_more: bool = Field(description="Whether there are more after `last_id`.")
    last_id: str | None = Field(
        description="What to ask for the next page with, as `after`: the id of a job."
    )
