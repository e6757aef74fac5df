"""What goes over HTTP between the `openai` client and the surface for it."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictStr

from shared.schemas import Prompt, Reply, Request

_WHOLE = re.compile(r"-?[0-9]{1,20}")

VideoStatus = Literal["queued", "in_progress", "completed", "failed"]
Variant = Literal["video", "thumbnail", "spritesheet"]


def _whole(value: Any) -> int:  # noqa: ANN401 - whatever was sent
    """A form has only text in it; JSON has one kind of number."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("must be a whole number")


def _number(value: Any) -> Any:  # noqa: ANN401 - whatever was sent
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic's way to refuse
    return value


Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class VideoRequest(Request):
    """The fields of both kinds of body, beside the file."""

    prompt: Prompt
    model: StrictStr | None = Field(default=None, description="By default the installation's.")
    seconds: Whole | None = Field(default=None, description='`5` or `"5"`, as the model can.')
    size: StrictStr | None = Field(default=None, description="`832x480` or `416x240`.")
    quality: StrictStr | None = Field(
        default=None, description="A preset: `reference`, `balanced`, `fast` or `preview`."
    )
    seed: Whole | None = Field(default=None, description="The same one gives the same video.")
    negative_prompt: StrictStr | None = Field(
        default=None, description="What the video does not show, instead of the model's own."
    )
    num_inference_steps: Whole | None = Field(default=None, description="Instead of the preset's.")
    guidance_scale: Number | None = Field(default=None, description="Instead of the preset's.")
    num_frames: Whole | None = Field(
        default=None, description="Instead of `seconds`: a multiple of 4, plus one."
    )
    fps: Whole | None = Field(default=None, description="The model's own; it renders no other.")


class VideoRemix(Request):
    prompt: Prompt


class VideoFailure(Reply):
    code: str
    message: str


class Video(Reply):
    id: str
    object: Literal["video"] = "video"
    created_at: int = Field(description="As all times here, in Unix seconds.")
    completed_at: int | None
    expires_at: int | None = Field(description="Of the files.")
    model: str
    progress: int = Field(ge=0, le=100, description="Percent of the whole job.")
    prompt: str
    remixed_from_video_id: str | None
    seconds: str
    size: str
    status: VideoStatus
    error: VideoFailure | None = Field(
        description="What a `failed` video failed of; `cancelled` if it was stopped on request."
    )


class VideoPage(Reply):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(Reply):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class VideoErrorDetail(Reply):
    message: str
    type: str
    param: str | None
    code: str


class VideoErrorReply(Reply):
    error: VideoErrorDetail
