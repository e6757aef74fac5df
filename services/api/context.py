"""What a request is answered with: the wiring, the keys, and what is known about the request."""

from dataclasses import dataclass

from flask import current_app, g

from services.api.auth import KeyFile
from services.api.waiting import WaitingRoom
from shared.wiring import Wiring

_EXTENSION = "promptreel"


@dataclass(frozen=True, kw_only=True)
class Api:
    """Everything a route may call, made once a process."""

    wiring: Wiring
    keys: KeyFile
    waiting_room: WaitingRoom


def api() -> Api:
    """The one the running app was made with."""
    found: Api = current_app.extensions[_EXTENSION]
    return found


def owner() -> str:
    """Whose key the request carries; only routes behind a key may ask."""
    name: str = g.owner
    return name


def request_id() -> str:
    found: str = g.request_id
    return found


def traceparent() -> str:
    """The W3C trace context that the work this request starts belongs to."""
    found: str = g.traceparent
    return found
