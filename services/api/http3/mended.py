"""What Hypercorn 0.18 needs to face the internet over HTTP/3, put into it when it is started.

Over HTTP/3 it does not notice that a caller has gone, keeps whatever a slow caller has not fetched in
memory, takes headers of any size, and sets one timer only: what is lost twice is not sent again, and who
is silent is not given up. Over TCP it waits for ever for a caller who takes nothing. And whatever one connection does wrong (a path that is not ASCII,
a body that goes on after its reply) ends the whole server. Where it does these things, the classes below
take the place of its own.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote_from_bytes

import h2.events
import hypercorn.protocol
import hypercorn.protocol.quic
import hypercorn.trio.run
import structlog
import trio
from aioquic.h3.connection import ErrorCode
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h3 import H3Protocol
from hypercorn.protocol.quic import QuicProtocol
from hypercorn.trio.tcp_server import TCPServer

log = structlog.get_logger("promptreel.http3")

# Before they are decoded.
_HEADERS_MAX_BYTES = 16 * 1024
# What may wait for a caller to fetch it, of each reply.
_AHEAD_MAX_BYTES = 512 * 1024
_STALLED_SECONDS = 60
_LOOK_AGAIN_SECONDS = 0.01
_PRINTABLE = bytes(range(0x21, 0x7F)).decode()


def mend() -> None:
    """Hypercorn looks these up by name whenever it starts to serve, or accepts a connection."""
    hypercorn.protocol.H2Protocol = Http2Connection  # type: ignore[attr-defined]  # a class for a class
    hypercorn.protocol.quic.H3Protocol = Http3Connection  # type: ignore[attr-defined]  # a class for a class
    hypercorn.protocol.quic.QuicProtocol = Quic  # type: ignore[misc]  # a class for a class
    hypercorn.trio.run.TCPServer = Tcp  # type: ignore[attr-defined]  # a class for a class


class Tcp(TCPServer):
    async def run(self) -> None:
        try:
            await super().run()
        except Exception as error:
            # It has closed its connection; the others are none of its business.
            log.warning("connection failed", exc_info=error)

    async def protocol_send(self, event: Event) -> None:
        """Whoever takes nothing for a minute is not waited for any longer."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
            return
        async with self.send_lock:
            try:
                with trio.fail_after(_STALLED_SECONDS, shield=True):
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                await trio.aclose_forcefully(self.stream)
                await self.protocol.handle(Closed())


class Http2Connection(H2Protocol):
    async def _handle_events(self, events: list[h2.events.Event]) -> None:
        for event in events:
            if isinstance(event, h2.events.DataReceived) and event.stream_id not in self.streams:
                # Of a request that has its reply already: room for what belongs to others.
                size = event.flow_controlled_length or 0
                self.connection.acknowledge_received_data(size, event.stream_id)
                continue
            if isinstance(event, h2.events.RequestReceived):
                event.headers = _with_ascii_path(event.headers)
            await super()._handle_events([event])
        await self._flush()


class Quic(QuicProtocol):
    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(*arguments, **named)
        self.task_group.spawn(self._say_good_bye)

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except Exception as error:
            log.warning("datagram failed", exc_info=error)

    async def _handle_timer(self, timer: float, connection: Any) -> None:  # noqa: ANN401 - its own, not exported
        await self.context.sleep(max(0, timer - self.context.time()))
        # In a task of its own: the next timer is set there, and setting one cancels the last.
        self.task_group.spawn(self._ring, connection)

    async def _ring(self, connection: Any) -> None:  # noqa: ANN401 - its own, not exported
        connection.quic.handle_timer(now=self.context.time())
        await self._handle_events(connection)

    async def _say_good_bye(self) -> None:
        """Else callers would find out when they ask again, and get no answer."""
        await self.context.terminated.wait()
        for connection in {id(one): one for one in self.connections.values()}.values():
            connection.quic.close(error_code=ErrorCode.H3_NO_ERROR)
            await self.send_all(connection)

    async def _handle_events(self, connection: Any, client: Any = None) -> None:  # noqa: ANN401 - its own, not exported
        try:
            await super()._handle_events(connection, client)
        except Exception as error:
            log.warning("connection failed", exc_info=error)
            connection.quic.close(error_code=ErrorCode.H3_INTERNAL_ERROR)
            await self.send_all(connection)


class Http3Connection(H3Protocol):
    """One caller's connection: its streams begin, end and are lost here."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - handed on
        super().__init__(*arguments, **named)
        self._quic: QuicConnection = self.connection._quic  # noqa: SLF001 - it has no other name
        self._begun: set[int] = (
            set()
        )  # requests whose headers are here, but not yet all of the rest
        self._headers_bytes: dict[int, int] = {}
        self._ahead_bytes: dict[int, int] = {}

    async def handle(self, quic_event: QuicEvent) -> None:
        match quic_event:
            case StreamReset(stream_id=stream_id) | StopSendingReceived(stream_id=stream_id):
                await self._lose(stream_id)
            case ConnectionTerminated():
                for stream_id in list(self.streams):
                    await self._lose(stream_id)
            case StreamDataReceived() if self._has_too_large_headers(quic_event):
                self._quic.close(error_code=ErrorCode.H3_EXCESSIVE_LOAD)
                return
        for event in self.connection.handle_event(quic_event):
            await self._handle(event)
        if isinstance(quic_event, StreamDataReceived) and quic_event.end_stream:
            self._begun.discard(quic_event.stream_id)

    async def stream_send(self, event: StreamEvent) -> None:
        stream_id = event.stream_id
        if stream_id not in self.streams:
            return
        await super().stream_send(event)
        match event:
            case Body(data=data):
                await self._keep_pace(stream_id, len(data))
            case StreamClosed():
                self._ahead_bytes.pop(stream_id, None)

    async def _handle(self, event: H3Event) -> None:
        match event:
            case HeadersReceived(stream_id=stream_id):
                # A second time they are trailers.
                if stream_id not in self._begun and not self.context.terminated.is_set():
                    self._begun.add(stream_id)
                    self._headers_bytes.pop(stream_id, None)
                    event.headers = _with_ascii_path(event.headers)
                    await self._begin(event)
            case DataReceived(stream_id=stream_id):
                await self._tell(Body(stream_id=stream_id, data=event.data))
            case _:
                return
        if event.stream_ended:
            await self._tell(EndBody(stream_id=event.stream_id))

    async def _begin(self, event: HeadersReceived) -> None:
        try:
            await self._create_stream(event)
        except Exception:
            self.streams.pop(event.stream_id, None)  # only half of it is there
            raise

    async def _tell(self, event: Body | EndBody) -> None:
        """Of a request that has its reply already, the rest is for nobody."""
        stream = self.streams.get(event.stream_id)
        if stream is not None:
            await stream.handle(event)

    def _has_too_large_headers(self, event: StreamDataReceived) -> bool:
        """Counts what comes on a stream until headers have been made of it."""
        stream_id = event.stream_id
        if stream_id in self._begun or stream_id % 4:  # only 0, 4, 8 … are requests
            return False
        size = self._headers_bytes.get(stream_id, 0) + len(event.data)
        self._headers_bytes[stream_id] = size
        return size > _HEADERS_MAX_BYTES

    async def _keep_pace(self, stream_id: int, size: int) -> None:
        """Wait while too much has been said that was not sent yet."""
        self._ahead_bytes[stream_id] = self._ahead_bytes.get(stream_id, 0) + size
        while self._ahead_bytes.get(stream_id, 0) > _AHEAD_MAX_BYTES:
            stream = self._quic._streams.get(stream_id)  # noqa: SLF001 - it tells nobody how far it is
            if stream is None or stream.sender.buffer_is_empty:
                self._ahead_bytes[stream_id] = 0
                return
            await self.context.sleep(_LOOK_AGAIN_SECONDS)

    async def _lose(self, stream_id: int) -> None:
        """The caller does not want it any more: whoever works on it is told."""
        self._begun.discard(stream_id)
        self._headers_bytes.pop(stream_id, None)
        self._ahead_bytes.pop(stream_id, None)
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            await stream.handle(StreamClosed(stream_id=stream_id))


def _with_ascii_path(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Other bytes percent-encoded: Hypercorn reads a path as ASCII, come what may."""
    return [
        (name, quote_from_bytes(value, safe=_PRINTABLE).encode() if name == b":path" else value)
        for name, value in headers
    ]
