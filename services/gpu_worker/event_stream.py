"""What a render process says, read from its pipe, which it may fill with anything."""

from collections.abc import AsyncGenerator

import anyio
import structlog
from anyio.abc import ByteReceiveStream
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import ValidationError

from services.gpu_worker.protocol import Event, parse_event

_MAX_LINE_BYTES = 1024 * 1024
_ENDS = (
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)

log = structlog.get_logger("promptreel.supervisor")


async def read_events(stream: ByteReceiveStream) -> AsyncGenerator[Event, None]:
    """The events until the stream ends; a line that is none ends it, too.

    Such a line is not logged: it may hold a prompt.
    """
    lines = BufferedByteReceiveStream(stream)
    while True:
        try:
            yield parse_event(await lines.receive_until(b"\n", _MAX_LINE_BYTES))
        except _ENDS:
            return
        except (anyio.DelimiterNotFound, ValidationError) as error:
            log.error("render process sent what is no event", reason=type(error).__name__)  # noqa: TRY400 - see above
            return
