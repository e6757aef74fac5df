"""Replicate, by its own library. What its answers mean is in ``prediction_of``, for webhooks as well."""

import base64
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import httpx

from shared import config_sections
from shared.adapters.images.replicate_wire import (
    UNSENT,
    GatewayFailed,
    NotThere,
    NotUnderstood,
    Wire,
)
from shared.errors import BackendUnavailable, ModelUnavailable, ProviderSilent
from shared.images.provider import InputPicture, Order, Prediction, PredictionStatus
from shared.secret_file import secret_in

if TYPE_CHECKING:
    from replicate.client import Client
    from replicate.prediction import Predictions

BASE_URL = "https://api.replicate.com"

# What it sends webhooks of: that it has begun, which is when it costs, and that it has ended.
_EVENTS = ["start", "completed"]
_FORMAT = "jpg"
_SHAPE_OF_THE_FIRST_INPUT = "match_input_image"

# They go into a URL.
PREDICTION_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MODEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")

PREDICTION_STATUSES: Mapping[str, PredictionStatus] = MappingProxyType(
    # Aborted: it was given up before it ran.
    {status.value: status for status in PredictionStatus} | {"aborted": PredictionStatus.CANCELED}
)
_REFUSED = re.compile(
    r"flagged as sensitive|\bE005\b|safety|prohibited|content policy", re.IGNORECASE
)


def prediction_of(payload: object) -> Prediction:
    """What a prediction's JSON says, whether it was answered or told by a webhook.

    Raises ``ValueError``, without a word of it, when it is no prediction.
    """
    if not isinstance(payload, Mapping):
        raise ValueError("a prediction is an object")  # noqa: TRY004 - of JSON, whose values are data
    prediction_id, word = payload.get("id"), payload.get("status")
    if not isinstance(prediction_id, str) or not PREDICTION_ID.fullmatch(prediction_id):
        raise ValueError("a prediction has an id")
    status = PREDICTION_STATUSES.get(word) if isinstance(word, str) else None
    if status is None:
        raise ValueError("a prediction has a status")
    has_run = status in {PredictionStatus.PROCESSING, PredictionStatus.SUCCEEDED}
    succeeded = status is PredictionStatus.SUCCEEDED
    error = str(payload.get("error"))
    return Prediction(
        id=prediction_id,
        status=status,
        ran=word != "aborted" and (has_run or payload.get("started_at") is not None),
        outputs=_outputs(payload.get("output")) if succeeded else (),
        refused=status is PredictionStatus.FAILED and _REFUSED.search(error) is not None,
    )


class ReplicateImages:
    """An ``ImageProvider``, for many threads."""

    name = "replicate"

    def __init__(self, section: config_sections.Replicate) -> None:
        """Raises ``ModelUnavailable`` when nobody could be asked as configured; nobody is asked yet."""
        token = _token(section.api_token_file)
        url = _base_url(section.base_url)
        try:
            # Not every process that knows of it asks it.
            from replicate.client import Client  # noqa: PLC0415
        except ImportError:
            raise ModelUnavailable(
                "Pictures are made on Replicate: install promptreel[api]."
            ) from None
        self._wire = Wire(request_seconds=section.request_seconds)
        self._client = Client(token, base_url=url, transport=self._wire)

    def create(self, order: Order) -> Prediction:
        """As the port says. An answer that cannot be read is silence, too: the order was taken."""
        if not _MODEL.fullmatch(order.model):
            raise _no_such_model()
        try:
            return self._ask(
                lambda client: client.models.predictions.create(
                    order.model, input=_input(order), **_told(order.webhook_url)
                )
            )
        except NotThere:
            raise _no_such_model() from None
        except UNSENT:
            raise BackendUnavailable("Replicate cannot be reached.") from None
        except (httpx.HTTPError, GatewayFailed):
            raise ProviderSilent("Replicate took an order and did not answer.") from None
        except NotUnderstood:
            raise ProviderSilent("Replicate took an order and gave no usable answer.") from None

    def read(self, prediction_id: str) -> Prediction | None:
        return self._ask_about(prediction_id, lambda client: client.predictions.get(prediction_id))

    def cancel(self, prediction_id: str) -> Prediction | None:
        return self._ask_about(
            prediction_id, lambda client: client.predictions.cancel(prediction_id)
        )

    def close(self) -> None:
        self._wire.close()

    def _ask_about(
        self, prediction_id: str, ask: Callable[["Client"], object]
    ) -> Prediction | None:
        if not PREDICTION_ID.fullmatch(prediction_id):
            return None
        try:
            return self._ask(ask)
        except NotThere:
            return None
        except httpx.TimeoutException:
            raise BackendUnavailable("Replicate did not answer in time.") from None
        except httpx.HTTPError:
            raise BackendUnavailable("Replicate cannot be reached.") from None
        except NotUnderstood:
            raise BackendUnavailable("Replicate gave an answer that cannot be used.") from None

    def _ask(self, ask: Callable[["Client"], object]) -> Prediction:
        answer = self._wire.heard(lambda: ask(self._client))
        try:
            return prediction_of(answer)
        except ValueError:
            raise NotUnderstood from None


def _input(order: Order) -> dict[str, object]:
    """As google/nano-banana takes it."""
    return {
        "prompt": order.prompt,
        "image_input": [_uri(picture) for picture in order.inputs],
        "aspect_ratio": order.aspect_ratio or _SHAPE_OF_THE_FIRST_INPUT,
        "output_format": _FORMAT,
    }


def _uri(picture: InputPicture) -> str:
    if picture.url is not None:
        return picture.url
    return f"data:{picture.content_type};base64,{base64.b64encode(picture.content).decode()}"


def _told(webhook_url: str | None) -> "Predictions.CreatePredictionParams":
    if webhook_url is None:
        return {}
    return {"webhook": webhook_url, "webhook_events_filter": _EVENTS}


def _outputs(output: object) -> tuple[str, ...]:
    """One picture is a string, several are an array; what is neither is no picture."""
    several = output if isinstance(output, list) else [output]
    return tuple(one for one in several if isinstance(one, str) and one)


def _no_such_model() -> ModelUnavailable:
    return ModelUnavailable(
        "Replicate has no such model: check images.model and images.replicate.base_url."
    )


def _base_url(url: str | None) -> str:
    with suppress(httpx.InvalidURL):
        return str(httpx.URL(url or BASE_URL))
    raise ModelUnavailable("The URL cannot be used: check images.replicate.base_url.")


def _token(file: Path | None) -> str:
    if file is None:
        raise ModelUnavailable(
            "Nobody is named who asks Replicate: set images.replicate.api_token_file."
        )
    if token := secret_in(file):
        return token
    raise ModelUnavailable(
        "The API token cannot be read: images.replicate.api_token_file must name a file with the "
        "token and no more."
    )
