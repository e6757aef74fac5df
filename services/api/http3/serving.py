"""Serves the app by Hypercorn: HTTP/3, 2 and 1.1 with TLS, and plain HTTP/1.1 for this machine or a proxy."""

import asyncio
import logging
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast
from wsgiref.types import WSGIApplication

import anyio
import hypercorn
import hypercorn.asyncio
import hypercorn.middleware
import hypercorn.trio
import trio
from hypercorn.typing import Framework

from services.api.http3.bridge import Bridge, Caller, never_empty
from services.api.http3.mended import mend
from shared.config_sections import Http3

_HEADERS_MAX_BYTES = 64 * 1024
_HANDSHAKE_SECONDS = 10
# Without a request, or until its headers are there.
_SILENT_SECONDS = 10
# How long requests in work may take to end after SIGTERM; whoever waits for a job is let go at once.
_STOP_SECONDS = 6


@dataclass(frozen=True, kw_only=True)
class Addresses:
    plain: str  # host:port, HTTP/1.1
    secure: str  # host:port, TCP and UDP


def serve(
    app: WSGIApplication,
    section: Http3,
    addresses: Addresses,
    *,
    threads: int,
    body_max_bytes: int,
    let_go: Callable[[], None],
) -> None:
    """Until SIGTERM or SIGINT; then ``let_go`` is to send those away who wait."""
    mend()
    called = never_empty(app)
    loops = {
        "trio": hypercorn.middleware.TrioWSGIMiddleware,
        "asyncio": hypercorn.middleware.AsyncioWSGIMiddleware,
    }
    caller = loops[section.event_loop](called, max_body_size=body_max_bytes)
    bridge = Bridge(
        cast("Caller", caller),
        threads=threads,
        body_max_bytes=body_max_bytes,
        body_seconds=section.body_seconds,
    )
    main = partial(_run, bridge, _configuration(section, addresses), threads, let_go)
    anyio.run(main, backend=section.event_loop)


async def _run(
    bridge: Bridge, configuration: hypercorn.Config, threads: int, let_go: Callable[[], None]
) -> None:
    async def told_to_stop() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
            let_go()
            with anyio.move_on_after(_STOP_SECONDS):
                await bridge.until_idle()

    app = cast("Framework", bridge)
    if configuration.worker_class == "trio":
        trio.to_thread.current_default_thread_limiter().total_tokens = threads
        await hypercorn.trio.serve(app, configuration, shutdown_trigger=told_to_stop)
    else:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
        await hypercorn.asyncio.serve(app, configuration, shutdown_trigger=told_to_stop)


def _configuration(section: Http3, addresses: Addresses) -> hypercorn.Config:
    told = logging.getLogger("hypercorn.error")
    told.setLevel(logging.WARNING)  # it says where it listens, and so do we
    return hypercorn.Config.from_mapping(
        bind=[addresses.secure],
        quic_bind=[addresses.secure],
        insecure_bind=[addresses.plain],
        certfile=str(section.certificate_file),
        keyfile=str(section.key_file),
        worker_class=section.event_loop,
        errorlog=told,
        include_server_header=False,
        h11_max_incomplete_size=_HEADERS_MAX_BYTES,
        h2_max_header_list_size=_HEADERS_MAX_BYTES,
        keep_alive_timeout=_SILENT_SECONDS,
        ssl_handshake_timeout=_HANDSHAKE_SECONDS,
        graceful_timeout=0.5,  # by then, nothing is in work
    )
