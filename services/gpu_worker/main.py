"""The worker's entry for pushes, on Cloud Run.

    functions-framework --source services/gpu_worker/main.py --target render --signature-type http

One push is one request: 204 acknowledges its message, anything else has Pub/Sub push it again, until
its dead-letter policy takes it. ``/health`` is the startup probe.
"""

import sys

import flask
import functions_framework
import structlog

from services.gpu_worker.push_answers import Answer
from services.gpu_worker.push_service import PushService
from shared.config import find_config, load_config
from shared.errors import (
    EXIT_CONFIGURATION,
    ConfigurationError,
    OperatorError,
    PromptreelError,
    TransientError,
    UnreadableMessage,
    UntrustedCaller,
)
from shared.settings import read_settings
from shared.telemetry import configure_logging

log = structlog.get_logger("promptreel.push")

_EXTENSION = "promptreel-push"
_BAD_REQUEST, _FORBIDDEN = 400, 403


@functions_framework.http
def render(request: flask.Request) -> flask.typing.ResponseReturnValue:
    """See the pushed message through, and say what Pub/Sub is to do with it."""
    service = _service()
    try:
        service.check_caller(request.headers.get("Authorization"))
        return "", service.take(dict(request.headers), request.get_data())
    except UntrustedCaller as error:
        return _refusal(error), _FORBIDDEN
    except UnreadableMessage as error:
        # Not a success: it is to end in the dead letters, where somebody sees it.
        return _refusal(error), _BAD_REQUEST
    except TransientError as error:
        return _refusal(error), Answer.REDELIVER
    except OperatorError as error:
        log.exception("push not taken")
        return {"code": error.code}, Answer.REDELIVER  # the message may name paths


def health() -> flask.typing.ResponseReturnValue:
    """200 when a render can start; the first call has the model loaded."""
    reason = _service().why_not_ready()
    if reason is None:
        return {"model_loaded": True}
    return {"model_loaded": False, "reason": reason}, 503


def install(app: flask.Flask, service: PushService) -> None:
    app.extensions[_EXTENSION] = service
    app.add_url_rule("/health", view_func=health)


def _service() -> PushService:
    service = flask.current_app.extensions[_EXTENSION]
    assert isinstance(service, PushService)  # noqa: S101 - `install` put it there
    return service


def _refusal(error: PromptreelError) -> flask.typing.ResponseValue:
    return {"code": error.code, "message": error.message}


def _configured_service() -> PushService:
    """Exits 2 when the configuration cannot be used."""
    try:
        settings = read_settings()
        config = load_config(find_config(settings.config_file))
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        sys.exit(EXIT_CONFIGURATION)
    configure_logging(settings.log_format, service="worker", project=config.gcp.project)
    return PushService(config, instance=settings.instance)


# functions-framework runs this file as a module of this name, inside its application.
if __name__ == "main":
    install(flask.current_app, _configured_service())
