"""The app, in the process that serves it. Whoever starts that process need not import it."""

import gc
import signal
import socket
import threading
from collections.abc import Callable

from flask import Flask

from services.api import app
from services.api.context import Api
from services.api.keys.ring import KeyRing
from services.api.keys.secret_source import key_source
from shared.config import Config, find_config, load_config
from shared.lifeline import exit_with_parent
from shared.settings import Settings
from shared.telemetry import Traces, configure_logging
from shared.wiring import Wiring


def serve_here(
    settings: Settings, open_wiring: Callable[[Config], Wiring], *, starter: int | None
) -> Flask:
    """The app in granian's serving process, which ``starter`` has started, if that is known."""
    # It outlives a killed main process by itself, and keeps the port.
    exit_with_parent(starter)
    built = build(settings, open_wiring)
    _let_go_on_stop(built.extensions["promptreel"])
    return built


def build(settings: Settings, open_wiring: Callable[[Config], Wiring]) -> Flask:
    """The app in the process that serves it."""
    config = load_config(find_config(settings.config_file))
    configure_logging(settings.log_format, service="api", project=config.gcp.project)
    built = app.create_app(open_wiring(config), KeyRing(key_source(config)))
    api: Api = built.extensions["promptreel"]
    if config.telemetry.traces != "off":
        last = threading.Thread(target=_close_traces, args=[api.wiring.traces], name="last-spans")
        last.daemon = False  # the process waits for it
        last.start()
    _spare_the_collector()
    return built


def _spare_the_collector() -> None:
    """What a start has made stays: to look through it once more, amid requests, takes 60 ms."""
    gc.collect()
    gc.freeze()


def _close_traces(traces: Traces) -> None:
    """When nothing is served any more: by then, every request has its span."""
    threading.main_thread().join()
    traces.close()


def _let_go_on_stop(api: Api) -> None:
    """Let whoever waits for a job go when this process is told to stop.

    Granian sets its own signal handlers after this; the wake-up descriptor is told as well.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may listen
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())  # open as long as this process lives

    def watch() -> None:
        while reader.recv(1):
            api.waiting_room.close()

    threading.Thread(target=watch, name="let-go-on-stop", daemon=True).start()
