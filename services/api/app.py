"""The Flask application: what is checked around every route, and which routes there are."""

import threading
from importlib.metadata import PackageNotFoundError, version

import structlog
from flask import Flask
from flask_openapi3.models.info import Info
from flask_openapi3.models.security_scheme import SecurityScheme
from flask_openapi3.models.server import Server
from flask_openapi3.openapi import OpenAPI
from werkzeug.middleware.proxy_fix import ProxyFix

from services.api.access_log import register_access_log
from services.api.context import Api
from services.api.cors import register_cors
from services.api.errors import refuse_fields, register_error_handlers
from services.api.gate import require_key
from services.api.gauges import StateGauges
from services.api.incoming import incoming_bodies
from services.api.keys.ring import KeyRing
from services.api.limits import StrictJson, check_body, forget_body
from services.api.outgoing import outgoing_files
from services.api.paces import Paces
from services.api.rates import Rates
from services.api.routes import (
    documentation,
    events,
    generate,
    generations,
    health,
    jobs,
    operations,
    outputs,
    sweep,
    usage,
    videos,
    webhook_endpoint,
    webhooks,
)
from services.api.security_headers import register_security_headers
from services.api.specification import add_specification
from services.api.waiting import WaitingRoom, seats_for
from shared.config import Config
from shared.config_sections import Replicate
from shared.schemas import ErrorReply
from shared.wiring import Wiring

log = structlog.get_logger("promptreel.api")

_PICTURES_AT_ONCE = 4
_SURFACES = (
    generate,
    jobs,
    events,
    webhook_endpoint,
    videos,
    generations,
    usage,
    webhooks,
    outputs,
    health,
    operations,
    sweep,
)

_DESCRIPTION = """\
A text prompt becomes a video. Submit a job, poll it or follow it live, fetch the file; or post
to `/generate` and wait.

- **Keys.** Send `Authorization: Bearer <key>`. A job is visible to its key's owner only.
- **The `openai` client** works as it is: its `base_url` is `/v1` of this server. Errors under `/v1/videos` have
  the shape it expects.
- **Pictures** are ordered at `/api/v1/generations`; its errors have five codes of their own.
- **Errors** have one shape, `{"error": {"code", "message", "request_id"}}`; the message says what to
  do. A body that cannot be read is 400 everywhere. Fields that are wrong are 422 at `/generate` and
  400 under `/v1`.
- **Completion webhooks.** Register a URL at `/v1/webhook`, and be told when a job has ended.
- **Retries.** Send an `Idempotency-Key` with a create, and repeat it as often as you like.
- Query parameters that an operation does not know are ignored; unknown fields of a body are refused.
"""


def create_app(wiring: Wiring, keys: KeyRing) -> OpenAPI:
    """The API over one set of adapters."""
    config = wiring.config
    app = described(config)
    _warn_of_open_doors(config.images.replicate)
    app.extensions["promptreel"] = Api(
        wiring=wiring,
        keys=keys,
        rates=Rates(config.limits),
        waiting_room=_waiting_room(wiring),
        paces=Paces(wiring.store, now=wiring.lifecycle.now),
        incoming=incoming_bodies(config.server.threads),
        outgoing=outgoing_files(config.server.threads),
        decoding=threading.Semaphore(_PICTURES_AT_ONCE),
    )
    _register_checks(app, config)
    wiring.metrics.add(StateGauges(wiring))
    return app


def described(config: Config) -> OpenAPI:
    """The routes, and what they tell of themselves; nothing is behind them yet."""
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
    if config.server.trusted_proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # as its documentation says
            app.wsgi_app, x_for=config.server.trusted_proxies, x_proto=0, x_host=0
        )
    for routes in _SURFACES:
        app.register_api(routes.surface)
    app.register_blueprint(documentation.surface)
    add_specification(app, config)
    return app


def _warn_of_open_doors(replicate: Replicate) -> None:
    if replicate.webhook_secret_file is None and replicate.allow_unsigned_webhooks:
        log.warning(
            "images.replicate.allow_unsigned_webhooks: anybody who can reach this API may say that a "
            "picture is done"
        )


def _register_checks(app: Flask, config: Config) -> None:
    """In this order: who it is said to be comes before how much is read of what was sent."""
    register_access_log(app)
    register_security_headers(app)
    register_cors(app, config.server.cors_origins)
    app.before_request(require_key)
    app.before_request(check_body)
    app.teardown_request(forget_body)
    register_error_handlers(app)


def _waiting_room(wiring: Wiring) -> WaitingRoom:
    return WaitingRoom(
        wiring.lifecycle,
        seats=seats_for(wiring.config.server.threads),
        wait_seconds=wiring.config.generate.wait_seconds,
        seats_per_owner=wiring.config.limits.streams_per_owner,
    )


def _version() -> str:
    try:
        return version("promptreel")
    except PackageNotFoundError:  # run from a checkout
        return "0"
