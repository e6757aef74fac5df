"""Every route needs a key unless it is named here."""

from flask import g, request

from services.api.context import api
from shared.errors import Unauthenticated

PUBLIC_ENDPOINTS = frozenset(
    {
        "documentation.asset",
        "documentation.page",
        "documentation.specification",
        "health.health",
        "operations.healthz",
        "operations.metrics",
        "operations.readyz",
    }
)
# Public with a signature, which the route checks; without one it needs a key like any other.
SIGNED_ENDPOINTS = frozenset({"outputs.output"})

# Google calls them with a token of its own, which the route checks.
GOOGLE_ENDPOINTS = frozenset({"sweep.sweep"})


def require_key() -> None:
    """Raises ``Unauthenticated``; a path that does not exist is left to be 404."""
    if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS | GOOGLE_ENDPOINTS:
        return
    if request.endpoint in SIGNED_ENDPOINTS and is_signed():
        return
    g.owner = _owner_of_key()


def is_signed() -> bool:
    """A link that has lost its signature or its time is still a link, only not a valid one."""
    return "signature" in request.args or "expires" in request.args


def _owner_of_key() -> str:
    # More than one header may reach us joined by a comma: that is no key, and is refused.
    header = request.headers.get("Authorization")
    if header is None:
        raise Unauthenticated
    return api().keys.owner_of(header)
