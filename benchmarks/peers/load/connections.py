"""Keep-alive connections to one server, one request at a time on each."""

import asyncio
from types import TracebackType
from typing import Self

from peers.dialects import Request
from peers.load.replies import Reply, body_so_far, encoded, reply_in


class Broken(ConnectionError):
    """The server was not there, or went away in the middle of a reply."""


class Connection(asyncio.Protocol):
    """Made by a ``Pool``."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._asked: asyncio.Future[Reply] | None = None
        self._last_event = b""  # followed until it has come

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._asked is None or self._asked.done():
            return
        received = bytes(self._received)
        if self._last_event and self._last_event in body_so_far(received):
            self._asked.set_result(Reply(200, b"", closes=True))
        elif (reply := reply_in(received)) is not None:
            self._asked.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(Broken(str(exc or "closed")))

    async def ask(self, request: Request, *, last_event: bytes = b"") -> Reply:
        """The reply; with ``last_event``, as soon as a stream has brought that. Raises ``Broken``."""
        if self._transport is None:
            raise Broken("closed")
        self._received.clear()
        self._last_event = last_event
        self._asked = asyncio.get_running_loop().create_future()
        self._transport.write(encoded(request, host=self._host))
        return await self._asked

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Pool:
    """As many connections as are needed at once. Use as a context: on leaving, they are closed."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[Connection] = []
        self.opened = 0

    async def ask(self, request: Request, *, last_event: bytes = b"") -> Reply:
        """Raises ``Broken``, also when the server cannot be reached."""
        connection = await self._borrow()
        try:
            reply = await connection.ask(request, last_event=last_event)
        except BaseException:
            connection.close()
            raise
        if reply.closes:
            connection.close()
        else:
            self._idle.append(connection)
        return reply

    async def _borrow(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        loop = asyncio.get_running_loop()
        address = f"{self._host}:{self._port}"
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(address), self._host, self._port
            )
        except OSError as error:
            raise Broken(str(error)) from error
        self.opened += 1
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        while self._idle:
            self._idle.pop().close()
