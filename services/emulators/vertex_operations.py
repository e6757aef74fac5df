"""Veo's side of our Vertex AI: clips that take a while, and operations that remember them."""

import base64
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.emulators.vertex_errors import VertexError, invalid, not_known_here
from services.emulators.vertex_pictures import film_clip, picture_sent
from services.emulators.vertex_script import Failed, Filtered, Outcome, Script

_CHOICES: Mapping[str, tuple[object, ...]] = {
    "durationSeconds": (4, 6, 8),
    "aspectRatio": ("16:9", "9:16"),
    "resolution": ("720p", "1080p"),
    "generateAudio": (True, False),
    "sampleCount": (1,),
}
_FREE = {"negativePrompt", "seed", "storageUri"}
_INSTANCE = {"prompt", "image", "lastFrame"}
_RESPONSE_TYPE = "type.googleapis.com/cloud.ai.large_models.vision.GenerateVideoResponse"
_MIME_TYPES = ("image/png", "image/jpeg")


@dataclass
class _Operation:
    name: str
    instance: Mapping[str, Any]
    parameters: Mapping[str, Any]
    outcome: Outcome | None
    polls_left: int
    response: dict[str, Any] | None = None


class Operations:
    """Those that were submitted, until they are forgotten."""

    def __init__(self, script: Script, *, polls: int, store: Callable[[str, bytes], None]) -> None:
        self.polls = polls  # how often a clip is asked for before it is there
        self._script = script
        self._store = store
        self._lock = threading.Lock()
        self._operations: dict[str, _Operation] = {}

    def submit(self, resource: str, model: str, body: Mapping[str, Any]) -> dict[str, Any]:
        instance, parameters = _checked(body)
        if "lastFrame" in instance and model.startswith("veo-3.0-"):
            raise invalid("`lastFrame` is not supported by this model.")
        name = f"{resource}/operations/{uuid.uuid4()}"
        operation = _Operation(
            name, instance, parameters, self._script.take_outcome(), polls_left=self.polls
        )
        with self._lock:
            self._operations[name] = operation
        return {"name": name}

    def fetch(self, model_path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One poll; the clip is filmed when it is first there."""
        name = str(body.get("operationName"))
        if not name.rpartition("/operations/")[0].endswith(model_path):
            raise invalid("The operation is not of this model.")
        with self._lock:
            operation = self._operations.get(name)
            if operation is None:
                raise VertexError(404, "", "The operation was not found.")
            if operation.polls_left > 0:
                operation.polls_left -= 1
                return {"name": name}
            return {"name": name, "done": True} | self._end(operation)

    def forget(self) -> None:
        """All of them, as Google does after a while."""
        with self._lock:
            self._operations.clear()

    def _end(self, operation: _Operation) -> dict[str, Any]:
        match operation.outcome:
            case Failed(code, message):
                return {"error": {"code": code, "message": message}}
            case Filtered(reasons):
                count = {"raiMediaFilteredCount": 1} if reasons else {}
                why = {"raiMediaFilteredReasons": list(reasons)} if reasons else {}
                return {"response": {"@type": _RESPONSE_TYPE, **count, **why}}
        if operation.response is None:
            operation.response = {"@type": _RESPONSE_TYPE, "videos": [self._film(operation)]}
        return {"response": operation.response}

    def _film(self, operation: _Operation) -> dict[str, str]:
        instance, parameters = operation.instance, operation.parameters
        clip = film_clip(
            str(instance["prompt"]).encode(),
            seconds=parameters.get("durationSeconds", 8),
            aspect_ratio=parameters.get("aspectRatio", "16:9"),
            resolution=parameters.get("resolution", "720p"),
            first_frame=_picture(instance, "image"),
            last_frame=_picture(instance, "lastFrame"),
            sound=parameters.get("generateAudio", True),
        )
        folder = parameters.get("storageUri")
        if folder is None:
            content = base64.b64encode(clip).decode()
            return {"bytesBase64Encoded": content, "mimeType": "video/mp4"}
        uri = f"{folder.rstrip('/')}/{operation.name.rpartition('/')[2]}/sample_0.mp4"
        self._store(uri, clip)
        return {"gcsUri": uri, "mimeType": "video/mp4"}


def _checked(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    instances, parameters = body.get("instances"), body.get("parameters", {})
    if not isinstance(instances, list) or len(instances) != 1 or not instances[0].get("prompt"):
        raise invalid("Give one instance with a prompt.")
    instance: Mapping[str, Any] = instances[0]
    for unknown in (set(instance) - _INSTANCE) | (set(parameters) - _FREE - set(_CHOICES)):
        raise not_known_here(unknown)
    for name, choices in _CHOICES.items():
        if name in parameters and parameters[name] not in choices:
            raise invalid(f"Unsupported output video {name}: {parameters[name]}.")
    if not str(parameters.get("storageUri", "gs://")).startswith("gs://"):
        raise invalid("storageUri must be of Cloud Storage.")
    for name in ("image", "lastFrame"):
        _picture(instance, name)
    return instance, parameters


def _picture(instance: Mapping[str, Any], name: str) -> bytes | None:
    if name not in instance:
        return None
    if instance[name].get("mimeType") not in _MIME_TYPES:
        raise invalid(f"Unsupported mimeType of {name}.")
    return picture_sent(instance[name].get("bytesBase64Encoded", "-"))
