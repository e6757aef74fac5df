"""Sending a webhook to a URL that an owner has given: to public addresses only, once, and not for long."""

import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpcore

from shared.adapters.public_network import NotPublic, PublicNetwork, Resolve
from shared.config_sections import Webhooks
from shared.public_url import Place, read_url
from shared.webhooks.sender import Answer, NoAnswer


class WebhookSender:
    """A ``Sender``, for many threads; each request has a connection of its own."""

    def __init__(
        self,
        config: Webhooks,
        *,
        resolve: Resolve | None = None,
        beneath: httpcore.NetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._seconds = config.request_seconds
        self._private = config.allow_private_addresses
        self._resolve = resolve
        self._beneath = beneath
        self._tls = tls or httpcore.default_ssl_context()
        self._clock = clock
        self._now = now

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        place = self._allowed(url)
        sent = [("Host", place.netloc), ("Content-Length", str(len(body))), *headers.items()]
        target = httpcore.URL(
            scheme=place.scheme, host=place.host, port=place.port, target=place.target
        )
        try:
            with (
                self._pool(place) as pool,
                # What it says beside its headers is nothing to us, and is not waited for.
                pool.stream("POST", target, headers=sent, content=body) as reply,
            ):
                return Answer(status=reply.status, retry_after=self._retry_after(reply))
        except NotPublic:
            raise NoAnswer("The URL leads to an address that is not public.") from None
        except httpcore.TimeoutException:
            raise NoAnswer(f"No answer within {self._seconds:g} s.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError):
            raise NoAnswer("The connection failed.") from None

    def _allowed(self, url: str) -> Place:
        try:
            place = read_url(url)
        except ValueError:
            raise NoAnswer("The URL is no plain one.") from None
        if place.scheme != "https" and not self._private:
            raise NoAnswer("The URL must begin with https://.")
        return place

    def _pool(self, place: Place) -> httpcore.ConnectionPool:
        # The environment's proxies are none of its business: they would resolve the name anew.
        return httpcore.ConnectionPool(
            ssl_context=self._tls,
            network_backend=PublicNetwork(
                also={(place.host, place.port)} if self._private else (),
                until=self._clock() + self._seconds,
                resolve=self._resolve,
                beneath=self._beneath,
                clock=self._clock,
            ),
        )

    def _retry_after(self, reply: httpcore.Response) -> timedelta | None:
        headers = {name.lower(): value for name, value in reply.headers}
        text = headers.get(b"retry-after", b"").decode("ascii", errors="replace").strip()
        if text.isdecimal():
            return timedelta(seconds=min(int(text), 10**6))
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(aware - self._now(), timedelta())
