"""Every route needs a key unless it is named here; and a key that may do what is asked."""

import structlog
from flask import g, request

from services.api.context import api
from services.api.keys.document import ApiKey, Scope
from shared.errors import ScopeMissing, TransientError, Unauthenticated

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

# Google calls it with a token of its own, a provider signs what it sends: the routes check that.
OTHERS_ENDPOINTS = frozenset({"sweep.sweep", "webhooks.replicate_webhook"})

_READING = frozenset({"GET", "HEAD", "OPTIONS"})

log = structlog.get_logger("promptreel.api")


def require_key() -> None:
    """Raises ``Unauthenticated``, ``ScopeMissing`` and ``TooManyRequests``.

    A path that does not exist is left to be 404.
    """
    if request.endpoint is None or request.endpoint in PUBLIC_ENDPOINTS | OTHERS_ENDPOINTS:
        return
    if request.endpoint in SIGNED_ENDPOINTS and is_signed():
        return
    address = request.remote_addr or "unknown"
    try:
        key = _key()
    except Unauthenticated:
        if "Authorization" in request.headers:
            api().rates.asked_with_a_wrong_key(address)
        raise
    api().rates.asked(key.id, address)
    g.owner, g.plan = key.owner, key.plan
    needed = Scope.READ if request.method in _READING else Scope.WRITE
    if needed not in key.scopes:
        raise ScopeMissing(needed)
    _note_use(key)


def is_signed() -> bool:
    """A link that has lost its signature or its time is still a link, only not a valid one."""
    return "signature" in request.args or "expires" in request.args


def _key() -> ApiKey:
    # More than one header may reach us joined by a comma: that is no key, and is refused.
    header = request.headers.get("Authorization")
    if header is None:
        raise Unauthenticated
    return api().keys.key_of(header)


def _note_use(key: ApiKey) -> None:
    now = api().wiring.lifecycle.now()
    if not api().keys.is_use_worth_noting(key.id, now):
        return
    try:
        api().wiring.store.note_key_use(key.id, now)
    except TransientError as error:
        log.warning("use of a key not noted", key_id=key.id, code=error.code)
