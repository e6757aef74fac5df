"""Connections to public addresses only, for URLs that others have given us.

A name is resolved once, every address it has is judged, and the connection goes to one of those that
were judged: no second look at the name can lead elsewhere. TLS still checks the name.
"""

import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Sequence

import httpcore

from shared.public_url import is_public

# The addresses of a host for a port, in the order in which they are to be tried. Raises ``OSError``.
Resolve = Callable[[str, int], Sequence[str]]


class NotPublic(Exception):
    """The host has an address that is not public; which host is not said."""


class PublicNetwork(httpcore.NetworkBackend):
    """For httpcore's connection pools; one of them must not outlive ``until``, a moment of ``clock``.

    ``also`` are hosts with their ports that somebody vouches for: they are not judged. ``beneath`` is
    who connects in the end.
    """

    def __init__(
        self,
        *,
        also: Collection[tuple[str, int]] = (),
        until: float | None = None,
        resolve: Resolve | None = None,
        beneath: httpcore.NetworkBackend | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._also = frozenset(also)
        self._until = until
        self._resolve = resolve or addresses_of
        self._beneath = beneath or httpcore.SyncBackend()
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Raises ``NotPublic``, and what ``httpcore.SyncBackend`` raises."""
        options = list(socket_options or ())
        failure: Exception = httpcore.ConnectError("The name has no address.")
        for address in self._judged(host, port):
            try:
                stream = self._beneath.connect_tcp(
                    address,
                    port,
                    timeout=self._left(timeout, httpcore.ConnectTimeout),
                    local_address=local_address,
                    socket_options=options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _Bounded(stream, self._left)
        raise failure

    def _judged(self, host: str, port: int) -> Sequence[str]:
        if (host, port) in self._also:
            return [host]
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            raise httpcore.ConnectError("The name cannot be resolved.") from None
        # One that is not public among others is no accident.
        if not all(is_public(address) for address in addresses):
            raise NotPublic
        return addresses

    def _left(self, timeout: float | None, late: type[Exception]) -> float | None:
        """As long as was asked for, but not beyond the moment when all must be over."""
        if self._until is None:
            return timeout
        left = self._until - self._clock()
        if left <= 0:
            raise late("The time is over.")
        return left if timeout is None else min(left, timeout)


def addresses_of(host: str, port: int) -> list[str]:
    """As the system resolves them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Bounded(httpcore.NetworkStream):
    """A stream that is read and written in time or not at all, however little comes at once."""

    def __init__(
        self,
        stream: httpcore.NetworkStream,
        left: Callable[[float | None, type[Exception]], float | None],
    ) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        seconds = self._left(timeout, httpcore.ConnectTimeout)
        return _Bounded(self._stream.start_tls(ssl_context, server_hostname, seconds), self._left)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
