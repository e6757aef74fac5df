"""What a request is answered with: the wiring, the keys, and what is known about the request."""

import threading
from dataclasses import dataclass

from flask import current_app, g

from services.api.incoming import IncomingBodies
from services.api.keys.ring import KeyRing
from services.api.outgoing import OutgoingFiles
from services.api.paces import Paces
from services.api.rates import Rates
from services.api.waiting import WaitingRoom
from shared.wiring import Wiring

_EXTENSION = "promptreel"


@dataclass(frozen=True, kw_only=True)
class Api:
    """Everything a route may call, made once a process."""

    wiring: Wiring
    keys: KeyRing
    rates: Rates
    waiting_room: WaitingRoom
    paces: Paces
    incoming: IncomingBodies
    outgoing: OutgoingFiles
    # Held while a caller's picture is decoded: one may take a hundred megabytes.
    decoding: threading.Semaphore


def api() -> Api:
    """The one the running app was made with."""
    found: Api = current_app.extensions[_EXTENSION]
    return found


def owner() -> str:
    """Whose key the request carries; only routes behind a key may ask."""
    name: str = g.owner
    return name


def plan() -> str | None:
    """That the key brings, instead of its owner's."""
    name: str | None = g.plan
    return name


def request_id() -> str:
    found: str = g.request_id
    return found


def traceparent() -> str:
    """The W3C trace context that the work this request starts belongs to."""
    found: str = g.traceparent
    return found
