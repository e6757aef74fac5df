"""The Flask application: what is checked around every route, and which routes there are."""

from importlib.metadata import PackageNotFoundError, version

from flask import Flask, Response
from flask_openapi3.models.info import Info
from flask_openapi3.models.security_scheme import SecurityScheme
from flask_openapi3.models.server import Server
from flask_openapi3.openapi import OpenAPI

from services.api.access_log import register_access_log
from services.api.auth import KeyFile
from services.api.context import Api
from services.api.errors import refuse_fields, register_error_handlers
from services.api.gate import require_key
from services.api.gauges import StateGauges
from services.api.limits import StrictJson, check_body
from services.api.routes import documentation, generate, health, jobs, operations, outputs, sweep
from services.api.specification import specification
from services.api.waiting import WaitingRoom, seats_for
from shared.schemas import ErrorReply
from shared.wiring import Wiring

_DESCRIPTION = """\
A text prompt becomes a video. Submit a job, poll it, fetch the file; or post to `/generate` and wait.

- **Keys.** Send `Authorization: Bearer <key>`. A job is visible to its key's owner only.
- **Errors** have one shape, `{"error": {"code", "message", "request_id"}}`; the message says what to
  do. A body that cannot be read is 400 everywhere. Fields that are wrong are 422 at `/generate` and
  400 under `/v1`.
- **Retries.** Send an `Idempotency-Key` with a create, and repeat it as often as you like.
- Query parameters that an operation does not know are ignored; unknown fields of a body are refused.
"""


def create_app(wiring: Wiring, keys: KeyFile) -> OpenAPI:
    """The API over one set of adapters."""
    config = wiring.config
    app = OpenAPI(
        "promptreel",
        info=Info(title="Promptreel", version=_version(), description=_DESCRIPTION),
        security_schemes={"key": SecurityScheme(type="http", scheme="bearer")},
        servers=[Server(url=config.server.public_url or "/")],
        doc_ui=False,  # /docs is ours: its own loads from /openapi/…, and shows three viewers
        static_folder=None,
        validation_error_callback=refuse_fields,
        validation_error_model=ErrorReply,
        validation_error_status=500,  # every operation says which status it really uses
    )
    app.json = StrictJson(app)
    # One more than allowed is read of a body that does not say its length, to see that it is longer.
    app.config["MAX_CONTENT_LENGTH"] = config.limits.body_max_bytes + 1
    app.extensions["promptreel"] = Api(wiring=wiring, keys=keys, waiting_room=_waiting_room(wiring))
    _register_checks(app)
    for routes in (generate, jobs, outputs, health, operations, sweep):
        app.register_api(routes.surface)
    app.register_blueprint(documentation.surface)
    app.config["SPECIFICATION"] = specification(app)
    wiring.metrics.add(StateGauges(wiring))
    return app


def _register_checks(app: Flask) -> None:
    """In this order: who it is said to be comes before how much is read of what was sent."""
    register_access_log(app)
    app.before_request(require_key)
    app.before_request(check_body)
    app.after_request(_harden)
    register_error_handlers(app)


def _harden(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"
    # Replies hold signed links and prompts: no cache on the way may keep them.
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _waiting_room(wiring: Wiring) -> WaitingRoom:
    return WaitingRoom(
        wiring.lifecycle,
        seats=seats_for(wiring.config.server.threads),
        wait_seconds=wiring.config.generate.wait_seconds,
    )


def _version() -> str:
    try:
        return version("promptreel")
    except PackageNotFoundError:  # run from a checkout
        return "0"
