"""The courier's entry for pushes, on Cloud Run.

    functions-framework --source services/courier/main.py --target deliver --signature-type http

One push is one request and at most one attempt: 204 acknowledges its message, 429 has Pub/Sub push it
again later, and fewer at once.
"""

import sys
import threading
from functools import cache

import flask
import functions_framework
import structlog

from shared.adapters.gcp.oidc import caller_check
from shared.adapters.gcp.push_envelope import parse_push
from shared.config import Config, find_config, load_config
from shared.errors import (
    EXIT_CONFIGURATION,
    ConfigurationError,
    PromptreelError,
    TransientError,
    UnreadableMessage,
    UntrustedCaller,
)
from shared.ports import CallerGuard
from shared.settings import read_settings
from shared.telemetry import configure_logging
from shared.webhooks.courier import Courier
from shared.wiring import wire

log = structlog.get_logger("promptreel.webhooks")

_DONE, _BAD_REQUEST, _FORBIDDEN, _BUSY, _UNAVAILABLE = 204, 400, 403, 429, 503


class PushedCourier:
    """Safe to call from many threads. Opened by the first call: the server forks before it."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._guard: CallerGuard | None = caller_check(config.gcp.push)
        self._places = threading.BoundedSemaphore(config.webhooks.at_once)
        self._opening = threading.Lock()
        self._courier: Courier | None = None

    def check_caller(self, authorization: str | None) -> None:
        """Raises ``UntrustedCaller``, if the configuration says who may push."""
        if self._guard is not None:
            self._guard.check(authorization)

    def deliver(self, job_id: str) -> bool:
        """False if too many are under way. Raises ``TransientError``."""
        if not self._places.acquire(blocking=False):
            return False
        try:
            self._opened().deliver(job_id)
        finally:
            self._places.release()
        return True

    def _opened(self) -> Courier:
        with self._opening:
            if self._courier is None:
                self._courier = wire(self._config, service="courier").courier()
            return self._courier


@functions_framework.http
def deliver(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """Tell an owner of the job that the pushed message names."""
    courier = _courier()
    try:
        courier.check_caller(request.headers.get("Authorization"))
        pushed = parse_push(dict(request.headers), request.get_data())
        done = courier.deliver(pushed.message.job_id)
    except UntrustedCaller as error:
        return _refusal(error), _FORBIDDEN
    except UnreadableMessage as error:
        # Not a success: it is to end in the dead letters, where somebody sees it.
        return _refusal(error), _BAD_REQUEST
    except TransientError as error:
        log.warning("webhook not seen to", code=error.code, reason=error.message)
        return {"code": error.code}, _UNAVAILABLE
    return "", _DONE if done else _BUSY


def _refusal(error: PromptreelError) -> flask.typing.ResponseValue:
    return {"code": error.code, "message": error.message}


@cache
def _courier() -> PushedCourier:
    """Exits 2 when the configuration cannot be used."""
    try:
        settings = read_settings()
        config = load_config(find_config(settings.config_file))
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_CONFIGURATION)
    configure_logging(settings.log_format, service="courier", project=config.gcp.project)
    return PushedCourier(config)


# functions-framework runs this file as a module of this name: what is wrong is said at the start.
if __name__ == "main":
    _courier()
