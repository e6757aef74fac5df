"""Fetching what a provider has made. The URL is the provider's word, and so is not to be trusted."""

import ssl
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Self

import httpcore

from shared.adapters.public_network import NotPublic, PublicNetwork, Resolve
from shared.complete_file import complete_or_absent
from shared.config_sections import Images
from shared.errors import BackendUnavailable, ModelUnavailable, OutputRefused
from shared.public_url import Place, read_url

_PAUSES_SECONDS = (0.2, 0.5, 1.0)
_CONNECT_SECONDS_MAX = 5.0
_READ_SECONDS_MAX = 10.0

_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_BROKEN = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


class Downloads:
    """For many threads; each file is fetched over a connection of its own."""

    def __init__(
        self,
        *,
        hosts: Sequence[str],
        max_bytes: int,
        request_seconds: float = 30.0,
        overall_seconds: float = 60.0,
        resolve: Resolve | None = None,
        beneath: httpcore.NetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Names in ``hosts``, with ``*.`` for all below one, are asked by HTTPS and at public addresses.

        Whole origins there, ``http://127.0.0.1:9025``, are the operator's own word: they are asked
        wherever they are. Raises ``ModelUnavailable`` for one that is none.
        """
        self._hosts = [host.lower() for host in hosts if "://" not in host]
        self._origins = {_origin(host) for host in hosts if "://" in host}
        self._max_bytes = max_bytes
        self._timeout = {
            "connect": min(request_seconds, _CONNECT_SECONDS_MAX),
            "read": min(request_seconds, _READ_SECONDS_MAX),
            "write": min(request_seconds, _READ_SECONDS_MAX),
        }
        self._overall_seconds = overall_seconds
        self._resolve = resolve
        self._beneath = beneath
        self._tls = tls or httpcore.default_ssl_context()
        self._sleep = sleep
        self._clock = clock

    @classmethod
    def of(cls, section: Images) -> Self:
        """As the configuration says."""
        return cls(
            hosts=section.replicate.output_hosts,
            max_bytes=section.output_max_bytes,
            request_seconds=section.replicate.request_seconds,
            overall_seconds=section.replicate.download_seconds,
        )

    def fetch(self, url: str, target: Path) -> None:
        """The file, whole or not at all.

        Raises ``OutputRefused`` for what may not or cannot be used, and ``BackendUnavailable`` when it
        could not be had in time, tries included; neither says where it was to come from.
        """
        place = self._allowed(url)
        until = self._clock() + self._overall_seconds
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return self._try(place, target, until)
            except BackendUnavailable:
                if self._clock() + pause_seconds >= until:
                    raise
            self._sleep(pause_seconds)
        return self._try(place, target, until)

    def _allowed(self, url: str) -> Place:
        place = _read(url)
        by_name = place.scheme == "https" and place.has_usual_port
        if place.origin in self._origins or (by_name and self._is_named(place.host)):
            return place
        raise _refused("is where nothing may be fetched from: see images.replicate.output_hosts")

    def _is_named(self, host: str) -> bool:
        return any(
            host.endswith(name[1:]) if name.startswith("*.") else host == name
            for name in self._hosts
        )

    def _try(self, place: Place, target: Path, until: float) -> None:
        try:
            with complete_or_absent(target) as partial, self._pool(place, until) as pool:
                self._fetch(pool, place, partial)
        except NotPublic:
            raise _refused("is at an address that is not public") from None
        except _BROKEN:
            raise BackendUnavailable("The provider's file cannot be fetched.") from None

    def _pool(self, place: Place, until: float) -> httpcore.ConnectionPool:
        # The environment's proxies are none of its business: they would resolve the name anew.
        return httpcore.ConnectionPool(
            ssl_context=self._tls,
            network_backend=PublicNetwork(
                also={(place.host, place.port)} if place.origin in self._origins else (),
                until=until,
                resolve=self._resolve,
                beneath=self._beneath,
                clock=self._clock,
            ),
        )

    def _fetch(self, pool: httpcore.ConnectionPool, place: Place, file: Path) -> None:
        url = httpcore.URL(
            scheme=place.scheme, host=place.host, port=place.port, target=place.target
        )
        headers = [("Host", place.netloc), ("Accept", "image/*"), ("Accept-Encoding", "identity")]
        extensions = {"timeout": self._timeout}
        with pool.stream("GET", url, headers=headers, extensions=extensions) as reply:
            self._check(reply)
            self._keep(reply, file)

    def _check(self, reply: httpcore.Response) -> None:
        status = reply.status
        if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise BackendUnavailable(f"The provider does not give its file ({status}).")
        if status != HTTPStatus.OK:
            # A redirect is among them: where it leads nobody has judged.
            raise _refused(f"is not there ({status})")
        headers = {name.lower(): value for name, value in reply.headers}
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise _refused("comes in an encoding that nobody asked for")
        if int(headers.get(b"content-length", b"0")) > self._max_bytes:
            raise _too_large()

    def _keep(self, reply: httpcore.Response, path: Path) -> None:
        size_bytes = 0
        with path.open("wb") as file:
            for chunk in reply.iter_stream():
                size_bytes += len(chunk)
                if size_bytes > self._max_bytes:
                    raise _too_large()
                file.write(chunk)


def _read(url: str) -> Place:
    """Raises ``OutputRefused`` for what is no plain URL."""
    try:
        return read_url(url)
    except ValueError:
        raise _refused("has no plain URL") from None


def _origin(configured: str) -> tuple[str, str, int]:
    try:
        place = _read(configured)
    except OutputRefused:
        place = None
    if place is None or place.target != "/":
        raise ModelUnavailable(
            "An origin is a scheme, a host and a port, http://127.0.0.1:9025: check "
            "images.replicate.output_hosts."
        )
    return place.origin


def _refused(why: str) -> OutputRefused:
    return OutputRefused(f"What the provider made {why}.")


def _too_large() -> OutputRefused:
    return _refused("is larger than images.output_max_bytes")
