"""Calling a port, which blocks, from the event loop."""

from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import to_thread

from shared.errors import TransientError

_PAUSE_SECONDS = 0.2

Result = TypeVar("Result")


async def call_port(call: Callable[[], Result]) -> Result:
    """Run the call in a thread. Who is cancelled does not wait for it: it ends by itself."""
    return await to_thread.run_sync(call, abandon_on_cancel=True)


async def insist(call: Callable[[], Result], *, seconds: float) -> Result:
    """Call again while the port is unavailable, for a while; then raises ``TransientError``."""
    deadline = anyio.current_time() + seconds
    pause_seconds = _PAUSE_SECONDS
    while True:
        try:
            return await call_port(call)
        except TransientError:
            if anyio.current_time() + pause_seconds > deadline:
                raise
            await anyio.sleep(pause_seconds)
            pause_seconds *= 2
