"""What renders. Each backend is imported only when a model of the catalog names it."""

from importlib import import_module
from typing import cast

from services.gpu_worker.backends.backend import Backend
from shared.errors import ModelUnavailable

_MODULES = {
    "veo3": "services.gpu_worker.backends.veo3",
    "wan2.1": "services.gpu_worker.backends.wan",
}


def find_backend(name: str) -> Backend:
    """The backend of this name in the catalog; importing it may take seconds."""
    try:
        module = _MODULES[name]
    except KeyError:
        raise ModelUnavailable(f"The backend {name} cannot render on this machine.") from None
    # A module with a ``load`` function is a backend: there is no state before a model is loaded.
    return cast("Backend", import_module(module))
