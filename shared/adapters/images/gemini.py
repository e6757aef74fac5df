"""Pictures of Gemini on Vertex AI, which draws while it is waited for: there is nothing to poll.

Each order has a connection of its own: one serves one thread at a time.
"""

import secrets

from shared import config_sections
from shared.adapters.vertex.aspect_ratio import nearest_aspect_ratio
from shared.adapters.vertex.connection import Vertex
from shared.adapters.vertex.gemini import ASPECT_RATIOS, Gemini
from shared.adapters.vertex.retries import NoAnswer
from shared.adapters.vertex.still import Still
from shared.errors import InvalidRequest, ProviderSilent
from shared.images.containers import UnusablePicture, read_container
from shared.images.provider import Order, Prediction, PredictionStatus


class GeminiImages:
    """An ``ImageProvider`` whose every prediction has ended when it is first heard of."""

    name = "gemini"

    def __init__(self, section: config_sections.Vertex) -> None:
        # One that is tried again may be charged twice.
        self._section = section.model_copy(update={"max_retries": 0})

    def create(self, order: Order) -> Prediction:
        """The picture itself. Raises ``InvalidRequest`` too, for what Gemini cannot draw."""
        drawn = self._draw(order)
        if isinstance(drawn, ProviderSilent):
            # Here, outside of any ``except``: what was asked would be printed as its context.
            raise drawn
        return Prediction(
            id=f"gemini_{secrets.token_hex(16)}",
            status=PredictionStatus.SUCCEEDED,
            ran=True,
            outputs=(drawn.content,),
        )

    def read(self, prediction_id: str) -> Prediction | None:  # noqa: ARG002 - every provider's
        """None: Gemini keeps nothing."""
        return None

    def cancel(self, prediction_id: str) -> Prediction | None:  # noqa: ARG002 - every provider's
        """None: there is nothing left to stop."""
        return None

    def close(self) -> None:
        """Nothing is held open."""

    def _draw(self, order: Order) -> Still | ProviderSilent:
        try:
            with Vertex.of(self._section) as vertex:
                return Gemini(vertex, painter=order.model).draw(
                    order.prompt,
                    references=tuple(picture.content for picture in order.inputs),
                    aspect_ratio=order.aspect_ratio or _first_inputs_shape(order),
                )
        except NoAnswer as error:
            return ProviderSilent(error.message)


def _first_inputs_shape(order: Order) -> str:
    if not order.inputs:
        return ASPECT_RATIOS[0]
    try:
        width, height = read_container(order.inputs[0].content).shown_size
    except UnusablePicture as unusable:
        raise InvalidRequest(str(unusable), field="image") from None
    return nearest_aspect_ratio(width, height, ASPECT_RATIOS)
