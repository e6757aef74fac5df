"""The W3C trace context: what ties the work of several processes for one request together."""

import random
import re

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def continue_trace(traceparent: str | None) -> str:
    """The W3C trace context of this piece of work: the caller's trace, else a new one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    trace_id = match.group(1) if match else new_id(128)
    return f"00-{trace_id}-{new_id(64)}-01"


def trace_id(traceparent: str | None) -> str | None:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match.group(1) if match else None


def new_id(bits: int) -> str:
    """Nobody else's, in hexadecimal; nothing that has to be hard to guess.

    The system is not asked for it: there, each request would let go of the interpreter's lock.
    """
    return f"{random.getrandbits(bits) or 1:0{bits // 4}x}"  # zero is no id of a trace
