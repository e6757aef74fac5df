"""How a render has ended, as its caller is told: by what it returns or raises."""

from services.gpu_worker.protocol import Rendered, RenderEnd, RenderFailed
from shared.errors import (
    BackendUnavailable,
    InvalidRequest,
    ModelUnavailable,
    PromptreelError,
    PromptRefused,
    RenderCrashed,
)

# What a render may say went wrong; anything else is a crash.
_RENDER_ERRORS = (BackendUnavailable, InvalidRequest, ModelUnavailable, PromptRefused)


class RenderStopped(Exception):
    """The render process stopped the render as it was told to."""


class RenderInterrupted(Exception):
    """The process was ended because another render did not stop: this one has done nothing wrong."""


class RenderUnfinished(Exception):
    """It had no more time in here. What it has made is kept, and whoever comes next goes on with it."""


def result_of(end: RenderEnd) -> Rendered:
    """Raises ``RenderStopped``, or the error that the render has told."""
    match end:
        case Rendered():
            return end
        case RenderFailed():
            raise _error(end)
        case _:
            raise RenderStopped


def _error(end: RenderFailed) -> PromptreelError:
    for error_class in _RENDER_ERRORS:
        if error_class.code == end.code:
            return error_class(end.message)
    return RenderCrashed(end.message)
