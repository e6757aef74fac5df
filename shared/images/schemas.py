"""What goes over HTTP about pictures; its fields are written likeThis."""

from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, Field, StrictStr
from pydantic.alias_generators import to_camel

from shared.schemas import JobFailure, Prompt, Reply, Request

GenerationStatus = Literal["starting", "processing", "succeeded", "failed", "canceled"]
Mode = Literal["generate", "edit", "combine"]


class CamelRequest(Request):
    model_config = ConfigDict(alias_generator=to_camel)


class CamelReply(Reply):
    model_config = ConfigDict(
        alias_generator=to_camel, serialize_by_alias=True, validate_by_name=True
    )


class GenerationRequest(CamelRequest):
    """The fields of both kinds of body, beside the files."""

    prompt: Prompt = Field(description="What the picture shows, or what is to be changed.")
    mode: Mode | None = Field(
        default=None,
        description=(
            "What it is made of: nothing, `input1`, or `input1` and `input2`. By default of what is "
            "sent."
        ),
    )
    aspect_ratio: StrictStr | None = Field(
        default=None, description="`16:9`; by default `1:1`, or that of `input1`."
    )
    model: StrictStr | None = Field(default=None, description="One of your plan's models.")


class GenerationChange(CamelRequest):
    action: Literal["cancel"]


class GenerationSettings(CamelReply):
    mode: Mode
    model: str
    aspect_ratio: str | None = Field(description="Null: that of `input1`.")


class GenerationAccepted(CamelReply):
    id: str
    prediction_id: str | None = Field(
        description="The provider's name for it; null until the provider has told it."
    )
    status: GenerationStatus
    settings: GenerationSettings


class Variant(CamelReply):
    """A picture that was made, with signed links that need no key."""

    index: int
    url: str
    thumbnail_url: str
    width: int
    height: int
    expires_at: datetime | None = Field(description="Of the links; ask again for new ones.")


class GenerationView(GenerationAccepted):
    created_at: datetime
    finished_at: datetime | None
    render_id: str | None = Field(description="Of what was made; null while there is nothing.")
    variants: list[Variant]
    deleted_at: datetime | None = Field(description="Since when there are no variants any more.")
    error: JobFailure | None


class UsageView(CamelReply):
    plan: str
    month: str = Field(description="In UTC, `2026-01`.")
    limit: int = Field(description="Images a month.")
    used: int = Field(description="What never ran at the provider is not counted.")
    remaining: int
    resets_at: datetime = Field(description="When the next month begins.")
