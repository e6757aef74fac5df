"""Starts the API: ``python -m services.api.main``, or granian on ``services.api.main:create_app``."""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server
from granian.server.common import AbstractServer

from services.api.incoming import bodies_at_once
from services.api.keys.ring import KeyRing
from services.api.keys.secret_source import key_source
from services.api.outgoing import files_at_once
from shared.config import Config, find_config, load_config
from shared.errors import EXIT_CONFIGURATION, ConfigurationError
from shared.lifeline import exit_with_parent
from shared.settings import Settings, read_settings
from shared.telemetry import configure_logging
from shared.wiring import Wiring, wire

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from flask import Flask

    from services.api.context import Api

log = structlog.get_logger("promptreel.api")

_wire = partial(wire, service="api")

_TCP = socket.SOCK_STREAM
_TCP_AND_UDP = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
_HEADER_READ_MILLISECONDS = 10_000
_HEADER_BYTES = 64 * 1024
# How long requests in work may take to end after SIGTERM; whoever waits for a job is let go at once.
_STOP_SECONDS = 6
# granian adds handlers and formats of its own; without them its lines come out as ours do.
_LET_OUR_ROOT_LOG = {
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}, "granian.access": {"propagate": True}},
}


def create_app() -> "Flask":
    """The app as granian's factory: everything it needs is named by the environment."""
    from services.api.serving_process import serve_here  # noqa: PLC0415 - see `_served`

    try:
        return serve_here(read_settings(), _wire, starter=None)
    except ConfigurationError as error:
        raise SystemExit(_one_line(error)) from error


def serve(
    settings: Settings,
    *,
    host: str | None = None,
    port: int | None = None,
    open_wiring: Callable[[Config], Wiring] = _wire,
) -> None:
    """Serve until SIGTERM or SIGINT, at the given address, else the environment's, else the configuration's.

    Raises ``ConfigurationError`` when it cannot start.
    """
    file = find_config(settings.config_file)
    config = load_config(file)
    configure_logging(settings.log_format, service="api", project=config.gcp.project)
    KeyRing(key_source(config))  # without keys it need not begin
    if port is None:
        port = config.server.port if settings.port is None else settings.port
    host, port = _free_address(file, host or config.server.host, port)
    plain = _authority(host, port)
    if config.server.http3 is not None:
        _serve_http3(settings, config, plain=plain, open_wiring=open_wiring)
        return
    log.info("starting", url=f"http://{plain}")
    server = _server(host, port, threads=config.server.threads)
    heard, told = Pipe(duplex=False)
    load = partial(_served, settings, open_wiring, _Starter(os.getpid(), told))
    server.serve(target_loader=load, wrap_loader=False)
    if heard.poll():
        raise ConfigurationError(*heard.recv())


def _serve_http3(
    settings: Settings, config: Config, *, plain: str, open_wiring: Callable[[Config], Wiring]
) -> None:
    """By Hypercorn, in this process. Raises ``ConfigurationError``."""
    file, section = find_config(settings.config_file), config.server.http3
    if section is None:
        raise AssertionError("asked for without a section")
    try:
        from services.api.http3 import certificate, serving  # noqa: PLC0415 - an extra, for those who want it
        from services.api.limits import largest_body  # noqa: PLC0415 - see `_served`
        from services.api.serving_process import build  # noqa: PLC0415 - see `_served`
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed: pip install 'promptreel[http3]'"
        raise ConfigurationError(file, [("server.http3", reason)]) from error
    certificate.check_certificate(file, section, datetime.now(UTC))
    host, port = section.host or config.server.host, section.port
    host, port = _free_address(file, host, port, section="server.http3", kinds=_TCP_AND_UDP)
    secure = _authority(host, port)
    app = build(settings, open_wiring)
    api: Api = app.extensions["promptreel"]
    log.info("starting", url=f"http://{plain}", http3=f"https://{secure}")
    serving.serve(
        app,
        section,
        serving.Addresses(plain=plain, secure=secure),
        # A body is here before it takes one.
        threads=config.server.threads + files_at_once(config.server.threads),
        body_max_bytes=largest_body(config),
        let_go=api.waiting_room.close,
    )


def _authority(host: str, port: int) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _server(host: str, port: int, *, threads: int) -> AbstractServer[Any]:
    return Server(
        f"{__name__}:create_app",  # a name for the log: the app is built from the settings
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=1,  # its threads share the metrics and the waiting seats
        blocking_threads=threads + bodies_at_once(threads) + files_at_once(threads),
        http=HTTPModes.http1,  # a proxy in front speaks HTTP/2 and 3
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_READ_MILLISECONDS, max_buffer_size=_HEADER_BYTES
        ),
        websockets=False,
        log_level=LogLevels.error,  # its warnings are advice on the number of threads
        log_dictconfig=_LET_OUR_ROOT_LOG,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
    )


@dataclass(frozen=True)
class _Starter:
    """The process that starts the serving one, as that one knows it."""

    process_id: int
    told: "Connection"  # the file and the problems of a ``ConfigurationError``

    def tell(self, error: ConfigurationError) -> NoReturn:
        """To whom the error is raised instead; it starts no other process."""
        self.told.send((error.file, error.problems))
        os.kill(self.process_id, signal.SIGTERM)
        signal.pause()  # until this one is stopped as well: who ends by himself is replaced
        raise SystemExit(EXIT_CONFIGURATION) from error


def _served(
    settings: Settings, open_wiring: Callable[[Config], Wiring], starter: _Starter
) -> "Flask":
    """The app in granian's serving process. The one that starts it does without, and opens nothing.

    That one forks, and a client of Google's that was made before a fork may hang after it.
    """
    from services.api.serving_process import serve_here  # noqa: PLC0415 - half of what a start takes

    try:
        return serve_here(settings, open_wiring, starter=starter.process_id)
    except ConfigurationError as error:
        starter.tell(error)


def _free_address(
    file: Path | None,
    host: str,
    port: int,
    *,
    section: str = "server",
    kinds: Sequence[socket.SocketKind] = (socket.SOCK_STREAM,),
) -> tuple[str, int]:
    """An address and port to serve at. Raises ``ConfigurationError`` when it is taken.

    Asked first because granian shares a port that is already served, silently.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        for kind in kinds:
            with socket.socket(family, kind) as probe:
                # Connections of an earlier server that linger do not count as taken.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind is _TCP)
                probe.bind(address)
                address = probe.getsockname()
    except socket.gaierror as error:
        reason = f"{host} is no address here"
        raise ConfigurationError(file, [(f"{section}.host", reason)]) from error
    except OSError as error:
        reason = (
            f"cannot listen at {host} port {port} ({error.strerror}); "
            "stop what does, or choose another (0: any free port)"
        )
        raise ConfigurationError(file, [(f"{section}.port", reason)]) from error
    return str(address[0]), int(address[1])


def _one_line(error: ConfigurationError) -> str:
    return " ".join(str(error).split())


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.api.main", description=__doc__)
    parser.add_argument(
        "--exit-with-parent",
        action="store_true",
        help="stop when the process that started this one is gone",
    )
    parser.add_argument("--host", help="an address to listen at, instead of the configuration's")
    parser.add_argument(
        "--port", type=int, help="instead of PORT's and the configuration's; 0: any free one"
    )
    arguments = parser.parse_args()
    if arguments.exit_with_parent:
        exit_with_parent()
    try:
        serve(read_settings(), host=arguments.host, port=arguments.port)
    except ConfigurationError as error:
        sys.stderr.write(_one_line(error) + "\n")
        sys.exit(EXIT_CONFIGURATION)


if __name__ == "__main__":
    _main()
