"""Veo 3 on Vertex AI: a clip is ordered, and asked for until it is there.

What ``submit`` returns can be stored: any other process may ``poll`` it, for as long as Google keeps it.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.adapters.vertex.connection import Vertex
from shared.adapters.vertex.retries import MalformedAnswer
from shared.adapters.vertex.still import Still
from shared.errors import BackendUnavailable, InvalidRequest, ModelUnavailable

if TYPE_CHECKING:
    from google.genai import Client
    from google.genai.types import GenerateVideosConfig, GenerateVideosResponse, Image

DEFAULT_MODEL = "veo-3.1-generate-001"

# Of Veo 3.0 and 3.1, text to video and image to video.
DURATIONS_SECONDS = (4, 6, 8)
ASPECT_RATIOS = ("16:9", "9:16")
RESOLUTIONS = ("720p", "1080p")
_LARGEST_SEED = 2**32 - 1

_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]*")
_WITHOUT_LAST_FRAME = "veo-3.0-"

# A name becomes part of a URL, and comes from storage.
_OPERATION = re.compile(
    r"(projects/[\w.:-]+/locations/[\w-]+/)?publishers/google/models/[\w.-]+/operations/[\w-]+",
    re.ASCII,
)


def ends_on_a_frame(model: str) -> bool:
    """Whether a clip of this model may be told its last frame."""
    return not model.startswith(_WITHOUT_LAST_FRAME)


def is_mp4(content: bytes) -> bool:
    """Whether it begins as an MP4 does, with a box that names its type."""
    return content[4:8] == b"ftyp"


class OperationLost(BackendUnavailable):
    """This operation will never give a clip: submit anew. Polling it again says the same."""


@dataclass(frozen=True, kw_only=True)
class VeoRequest:
    """One clip. Its ``repr`` is safe to log: no prompt, no picture."""

    prompt: str = field(repr=False)
    negative_prompt: str = field(default="", repr=False)
    first_frame: Still | None = field(default=None, repr=False)
    last_frame: Still | None = field(default=None, repr=False)  # Veo 3.1 and later
    duration_seconds: int = 8
    aspect_ratio: str = "16:9"
    resolution: str = "720p"
    seed: int | None = None
    generate_audio: bool = False  # a clip with sound costs more
    output_gcs_uri: str | None = None  # a folder in a bucket; None: the clip comes with the answer
    model: str = DEFAULT_MODEL

    def check(self) -> None:
        """Raises ``InvalidRequest`` or ``ModelUnavailable`` for what Veo 3 cannot make."""
        _check("duration", self.duration_seconds, DURATIONS_SECONDS)
        _check("aspect_ratio", self.aspect_ratio, ASPECT_RATIOS)
        _check("resolution", self.resolution, RESOLUTIONS)
        if not self.prompt.strip():
            raise InvalidRequest("Veo needs a prompt.", field="prompt")
        if self.seed is not None and not 0 <= self.seed <= _LARGEST_SEED:
            raise InvalidRequest(f"Veo's seeds are 0 to {_LARGEST_SEED}.", field="seed")
        if not _MODEL.fullmatch(self.model):
            raise ModelUnavailable("vertex.veo_model is no model's name.")
        if self.last_frame is None:
            return
        if self.first_frame is None:
            raise InvalidRequest("A clip with a last frame needs a first one.", field="image")
        if not ends_on_a_frame(self.model):
            raise ModelUnavailable(
                "Veo 3.0 cannot end on a given frame: name a Veo 3.1 model as vertex.veo_model."
            )


@dataclass(frozen=True)
class Pending:
    """Not done yet. Nobody can say how far it is."""


@dataclass(frozen=True)
class Done:
    """The clip: where it is in Cloud Storage (``gs://…``), or its bytes."""

    video: str | bytes = field(repr=False)
    content_type: str


class Veo:
    """Orders clips. Each method asks once and, when that fails, as often as ``Vertex`` does."""

    def __init__(self, vertex: Vertex) -> None:
        self._vertex = vertex

    def submit(self, request: VeoRequest) -> str:
        """The operation's name.

        Raises ``InvalidRequest``, ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable``.
        """
        request.check()
        missing = ModelUnavailable(
            f"Vertex AI has no model {request.model} here: check vertex.veo_model and vertex.location."
        )
        return self._vertex.call(lambda client: _submit(client, request), missing=missing)

    def poll(self, operation_name: str) -> Pending | Done:
        """How it is with an operation, whoever has submitted it.

        Raises ``PromptRefused``, ``ModelUnavailable``, ``BackendUnavailable`` when Vertex AI cannot
        be asked, ``OperationLost`` when it gives no clip and another one should be ordered.
        """
        if not _OPERATION.fullmatch(operation_name):
            raise OperationLost("This is no operation of Vertex AI.")
        lost = OperationLost("Vertex AI does not know this operation any more.")
        return self._vertex.call(lambda client: _poll(client, operation_name), missing=lost)


def _submit(client: "Client", request: VeoRequest) -> str:
    from google.genai import types  # noqa: PLC0415 - imported with the client

    operation = client.models.generate_videos(
        model=request.model,
        source=types.GenerateVideosSource(prompt=request.prompt, image=_image(request.first_frame)),
        config=_config(request),
    )
    name = operation.name or ""
    if not _OPERATION.fullmatch(name):
        raise MalformedAnswer
    return name


def _config(request: VeoRequest) -> "GenerateVideosConfig":
    from google.genai import types  # noqa: PLC0415 - imported with the client

    return types.GenerateVideosConfig(
        number_of_videos=1,
        duration_seconds=request.duration_seconds,
        aspect_ratio=request.aspect_ratio,
        resolution=request.resolution,
        negative_prompt=request.negative_prompt or None,
        seed=request.seed,
        generate_audio=request.generate_audio,
        last_frame=_image(request.last_frame),
        output_gcs_uri=request.output_gcs_uri,
    )


def _image(still: Still | None) -> "Image | None":
    from google.genai import types  # noqa: PLC0415 - imported with the client

    if still is None:
        return None
    return types.Image(image_bytes=still.content, mime_type=still.content_type)


def _poll(client: "Client", operation_name: str) -> Pending | Done:
    from google.genai import types  # noqa: PLC0415 - imported with the client

    from shared.adapters.vertex.errors import operation_error  # noqa: PLC0415 - too

    operation = client.operations.get(
        types.GenerateVideosOperation.model_validate({"name": operation_name})
    )
    if operation.error:
        error = operation_error(operation.error)
        if isinstance(error, BackendUnavailable):
            raise OperationLost(f"{error.message} The clip must be ordered again.")
        raise error
    if operation.done and operation.response is not None:
        return _done(operation.response)
    # One that goes on says its name. What has neither is no answer to what was asked.
    if operation.done or not operation.name:
        raise MalformedAnswer
    return Pending()


def _done(response: "GenerateVideosResponse") -> Done:
    from shared.adapters.vertex.errors import refused  # noqa: PLC0415 - see _poll

    if not response.generated_videos:
        # Of one clip a request, it is this one that was filtered; Google's reasons are sentences.
        raise refused("the clip")
    video = response.generated_videos[0].video
    if video is not None and video.video_bytes and is_mp4(video.video_bytes):
        return Done(video.video_bytes, video.mime_type or "video/mp4")
    if video is not None and video.uri and video.uri.startswith("gs://"):
        return Done(video.uri, video.mime_type or "video/mp4")
    raise MalformedAnswer


def _check(field_name: str, value: object, offered: tuple[object, ...]) -> None:
    if value not in offered:
        choices = ", ".join(map(str, offered))
        unit = " seconds" if field_name == "duration" else ""
        raise InvalidRequest(f"Veo 3 makes clips of {choices}{unit}.", field=field_name)
