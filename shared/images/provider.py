"""The port to whoever makes pictures elsewhere. A second provider is one more file behind it.

A picture is ordered once, ``create``. How it is getting on is told by a webhook, or asked, ``read``.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class PredictionStatus(StrEnum):
    STARTING = "starting"  # accepted; nothing is computed yet
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self not in {PredictionStatus.STARTING, PredictionStatus.PROCESSING}


@dataclass(frozen=True, kw_only=True)
class InputPicture:
    """A picture to start from. Its ``repr`` is safe to log."""

    content: bytes = field(repr=False)
    content_type: str
    url: str | None = field(default=None, repr=False)  # where the provider may fetch it for a while


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a provider is asked for. Its ``repr`` is safe to log."""

    model: str
    prompt: str = field(repr=False)
    aspect_ratio: str | None  # "16:9"; None: the first input's
    inputs: tuple[InputPicture, ...] = ()
    webhook_url: str | None = field(default=None, repr=False)  # None: it is only asked, never tells


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a provider says of one order. Its ``repr`` is safe to log."""

    id: str
    status: PredictionStatus
    # Something was computed, and may be charged; False: it ended, or is, before that.
    ran: bool
    outputs: tuple[str | bytes, ...] = field(default=(), repr=False)  # a URL, or the picture itself
    refused: bool = False  # it failed because a filter stopped the prompt or the picture


class ImageProvider(Protocol):
    """Every method blocks, and may be called from many threads.

    Each raises ``BackendUnavailable`` when the provider cannot be reached or fails, and
    ``ModelUnavailable`` when whoever runs the installation must mend something: then nothing ran. None
    of their messages holds a prompt, a URL, or what the provider said.
    """

    name: str  # "replicate"

    def create(self, order: Order) -> Prediction:
        """Order a picture, once: it is not tried again.

        Raises ``PromptRefused`` and, when the order was sent and no answer came, so that nobody knows
        whether it runs, ``ProviderSilent``.
        """

    def read(self, prediction_id: str) -> Prediction | None:
        """How it is getting on; None for what the provider does not know or has forgotten."""

    def cancel(self, prediction_id: str) -> Prediction | None:
        """Stop it, and say how it stands then; one that has ended stays as it is."""

    def close(self) -> None:
        """Let go of connections."""
