"""HTTP/3 for httpx: a transport that speaks nothing else, over aioquic on a thread of its own."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection, ProtocolError
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, StreamReset

# A server that is gone answers no ping: what waits for it is told after this long. One on a busy machine does.
_DEAD_SECONDS = 20.0
_PING_SECONDS = 2.0
_PIECE_BYTES = 64 * 1024
_OF_A_CONNECTION = {"connection", "transfer-encoding", "keep-alive", "host"}


class _Reply:
    """What has come on one stream; None ends it."""

    def __init__(self) -> None:
        self.pieces: queue.Queue[list | bytes | Exception | None] = queue.Queue()

    def next(self, seconds: float | None) -> list | bytes | None:
        try:
            piece = self.pieces.get(timeout=seconds)
        except queue.Empty:
            raise httpx.ReadTimeout("no answer in time") from None
        if isinstance(piece, Exception):
            raise piece
        return piece


class _Http3(H3Connection):
    """aioquic expects of HEAD, 304 and 204, too, as many bytes as Content-Length says."""

    def _check_content_length(self, stream) -> None:
        if stream.content_length:
            super()._check_content_length(stream)


class _Connection(QuicConnectionProtocol):
    def __init__(self, *arguments, **named) -> None:
        super().__init__(*arguments, **named)
        self.http = None
        self.protocol = None
        self.replies: dict[int, _Reply] = {}
        self.is_open = True
        self.why = None

    def quic_event_received(self, event) -> None:
        match event:
            case ProtocolNegotiated():
                self.protocol = event.alpn_protocol
                self.http = _Http3(self._quic)
            case ConnectionTerminated():
                self.is_open = False
                self.why = event
                for reply in self.replies.values():
                    reply.pieces.put(httpx.RemoteProtocolError(f"closed: {event.error_code:#x}"))
            case StreamReset() if event.stream_id in self.replies:
                self.replies[event.stream_id].pieces.put(httpx.RemoteProtocolError("reset"))
        if self.http is not None:
            for found in self.http.handle_event(event):
                self._hear(found)

    def _hear(self, event) -> None:
        reply = self.replies.get(event.stream_id)
        if reply is None:
            return
        match event:
            case HeadersReceived():
                reply.pieces.put(event.headers)
            case DataReceived() if event.data:
                reply.pieces.put(event.data)
        if event.stream_ended:
            reply.pieces.put(None)


class _Body(httpx.SyncByteStream):
    def __init__(self, transport, connection, stream_id, reply, seconds) -> None:
        self._parts = (transport, connection, stream_id)
        self._reply, self._seconds, self._ended = reply, seconds, False

    def __iter__(self) -> Iterator[bytes]:
        while (piece := self._reply.next(self._seconds)) is not None:
            yield piece
        self._ended = True

    def close(self) -> None:
        transport, connection, stream_id = self._parts
        transport.call(transport.let_go(connection, stream_id, ended=self._ended))


class Http3Transport(httpx.BaseTransport):
    """Trusts one authority. ``asked`` has the protocol of every request, as it was negotiated."""

    def __init__(self, authority: Path, *, dead_seconds: float = _DEAD_SECONDS) -> None:
        self._authority = authority
        self._dead_seconds = dead_seconds
        self._connections: dict[tuple[str, int], tuple] = {}
        self.asked: list[str] = []
        self._opening: dict[tuple[str, int], asyncio.Lock] = {}
        self._loop = asyncio.new_event_loop()
        self.come_back()

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        seconds = request.extensions.get("timeout", {}).get("read")
        origin = (request.url.host, request.url.port or 443)
        reply = _Reply()
        connection = self.call(self._connection(origin))
        stream_id = self.call(self._begin(connection, request, reply))
        for piece in _pieces(request.stream):
            self.call(self._send(connection, stream_id, piece, ended=False))
        self.call(self._send(connection, stream_id, b"", ended=True))
        self.asked.append(connection.protocol)
        while (headers := dict_of(reply.next(seconds)))[b":status"] == b"100":
            pass
        return httpx.Response(
            int(headers[b":status"]),
            headers=[(name, value) for name, value in headers.items() if name[0] != ord(":")],
            stream=_Body(self, connection, stream_id, reply, seconds),
            extensions={"http_version": b"HTTP/3"},
        )

    def close(self) -> None:
        self.call(self._close())
        self.vanish()
        self._loop.close()

    def vanish(self) -> None:
        """As if the network were gone: nobody is told, nothing is answered."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def come_back(self) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    # --- on the loop's thread

    async def let_go(self, connection, stream_id, *, ended) -> None:
        connection.replies.pop(stream_id, None)
        if not ended and connection.is_open:
            with suppress(ValueError):  # it has come whole, only nobody has read it
                connection._quic.stop_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
            connection.transmit()

    async def _connection(self, origin) -> _Connection:
        async with self._opening.setdefault(origin, asyncio.Lock()):
            found = self._connections.get(origin)
            if found is None or not found[0].is_open:
                if found is not None:
                    await found[1].__aexit__(None, None, None)
                found = await self._open(origin)
                self._connections[origin] = found
            return found[0]

    async def _open(self, origin):
        configuration = QuicConfiguration(
            alpn_protocols=H3_ALPN, is_client=True, idle_timeout=self._dead_seconds
        )
        configuration.load_verify_locations(self._authority)
        made = []

        def make(*arguments, **named) -> _Connection:
            made.append(_Connection(*arguments, **named))
            return made[0]

        opened = connect(*origin, configuration=configuration, create_protocol=make)
        try:
            connection = await opened.__aenter__()
        except (ConnectionError, OSError) as error:
            raise httpx.ConnectError(f"no QUIC connection: {made and made[0].why}") from error
        assert connection.protocol == "h3"
        pinging = asyncio.create_task(_ping(connection))
        return connection, opened, pinging

    async def _begin(self, connection, request, reply) -> int:
        stream_id = connection._quic.get_next_available_stream_id()
        connection.replies[stream_id] = reply
        headers = [
            (b":method", request.method.encode()),
            (b":scheme", b"https"),
            (b":authority", request.headers["host"].encode()),
            (b":path", request.extensions.get("target", request.url.raw_path)),
            *(
                (name.lower(), value)
                for name, value in request.headers.raw
                if name.decode().lower() not in _OF_A_CONNECTION
            ),
        ]
        connection.http.send_headers(stream_id, headers)
        connection.transmit()
        return stream_id

    async def _send(self, connection, stream_id, data, *, ended) -> None:
        # A reply that came first is the answer: whether the rest was sent matters to nobody.
        with suppress(AssertionError, ValueError, ProtocolError):
            connection.http.send_data(stream_id, data, ended)
        connection.transmit()

    async def _close(self) -> None:
        for _, opened, pinging in self._connections.values():
            pinging.cancel()
            await asyncio.gather(pinging, return_exceptions=True)
            await opened.__aexit__(None, None, None)


def dict_of(headers) -> dict[bytes, bytes]:
    if headers is None:
        raise httpx.RemoteProtocolError("ended without a reply")
    return dict(headers)


def _pieces(stream) -> Iterator[bytes]:
    for chunk in stream:
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]


async def _ping(connection) -> None:
    with suppress(ConnectionError):
        while connection.is_open:
            await asyncio.sleep(_PING_SECONDS)
            await connection.ping()
