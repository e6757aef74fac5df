"""Asks a URL over HTTP/3 and nothing else, as `curl --http3-only -i` does, where curl cannot.

.venv/bin/python deploy/edge/ask_http3.py https://localhost/healthz --authority certificates/ca.pem
"""

import argparse
import asyncio
import sys
from urllib.parse import urlsplit

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, ProtocolNegotiated, QuicEvent

_SECONDS = 10


class Question(QuicConnectionProtocol):
    """One GET; ``ended`` once its reply is whole, or none can come."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self.negotiated: str | None = None
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.ended = asyncio.Event()
        self._http = H3Connection(self._quic)

    def ask(self, url: str) -> None:
        place = urlsplit(url)
        target = (place.path or "/") + (f"?{place.query}" if place.query else "")
        headers = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", place.netloc.encode()),
            (b":path", target.encode()),
        ]
        self._http.send_headers(self._quic.get_next_available_stream_id(), headers, end_stream=True)
        self.transmit()

    def quic_event_received(self, event: QuicEvent) -> None:
        match event:
            case ProtocolNegotiated():
                self.negotiated = event.alpn_protocol
            case ConnectionTerminated():
                self.ended.set()
        for told in self._http.handle_event(event):
            match told:
                case HeadersReceived():
                    self.headers = told.headers
                case DataReceived():
                    self.body += told.data
            if told.stream_ended:
                self.ended.set()


async def ask(url: str, authority: str | None) -> Question:
    place = urlsplit(url)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN)
    if authority is not None:
        configuration.load_verify_locations(authority)
    async with (
        asyncio.timeout(_SECONDS),
        connect(
            place.hostname or "",
            place.port or 443,
            configuration=configuration,
            create_protocol=Question,
        ) as question,
    ):
        question.ask(url)
        await question.ended.wait()
        return question


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--authority", help="a PEM file, if it is none that everybody trusts")
    arguments = parser.parse_args()
    try:
        answered = asyncio.run(ask(arguments.url, arguments.authority))
    except (ConnectionError, TimeoutError, OSError) as error:
        sys.exit(f"no HTTP/3 at {arguments.url}: {error or type(error).__name__}")
    if not answered.headers:
        sys.exit(f"no reply from {arguments.url}")
    print(f"negotiated {answered.negotiated}")
    for name, value in answered.headers:
        print(f"{name.decode()}: {value.decode()}")
    print(f"\n{answered.body.decode(errors='replace')}")


if __name__ == "__main__":
    main()
