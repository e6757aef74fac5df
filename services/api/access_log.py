"""One log line and one measurement a request: never its query, its body or its key."""

import re
import time

import structlog
from flask import Flask, Response, g, request

from services.api.context import api
from shared.telemetry import Span, Traces, new_id, redact_text, trace_id

log = structlog.get_logger("promptreel.http")

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}", re.ASCII)
# Asked every few seconds, by machines: nobody wants a trace of it.
_UNTRACED = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SERVERS_FAULT = 500


def register_access_log(app: Flask) -> None:
    """Must be registered before anything that may refuse a request: refusals are logged too."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_forget)


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    # One that looks like a key is not repeated, neither here nor to the caller.
    usable = _REQUEST_ID.fullmatch(given) and redact_text(given) == given
    g.request_id = given if usable else new_id(128)
    g.span = _begun_span()
    g.traceparent = g.span.traceparent
    g.began = time.monotonic()
    structlog.contextvars.bind_contextvars(request_id=g.request_id, trace=trace_id(g.traceparent))


def _finish(response: Response) -> Response:
    seconds = time.monotonic() - g.began
    method, route = _named()
    metrics = api().wiring.metrics
    metrics.http_requests.labels(method, route, str(response.status_code)).inc()
    metrics.http_seconds.labels(method, route).observe(seconds)
    g.span.note({"http.response.status_code": response.status_code})
    if response.status_code >= _SERVERS_FAULT:
        g.span.fail(str(response.status_code))
    g.span.end()
    log.info(
        "request",
        method=method,
        route=route,
        status=response.status_code,
        protocol=request.environ.get("SERVER_PROTOCOL"),
        seconds=round(seconds, 4),
        owner=g.get("owner"),
    )
    response.headers["X-Request-ID"] = g.request_id
    return response


def _begun_span() -> Span:
    method, route = _named()
    traces = Traces() if route in _UNTRACED else api().wiring.traces
    return traces.begin(
        f"{method} {route}",
        parent=request.headers.get("traceparent"),
        kind="server",
        attributes={
            "http.request.method": method,
            "http.route": route,
            "promptreel.request_id": g.request_id,
        },
    )


def _named() -> tuple[str, str]:
    """Method and route. Both come from the caller: names of our own are few, and hold no secret."""
    method = request.method if request.method in _METHODS else "other"
    return method, request.url_rule.rule if request.url_rule else "unmatched"


def _forget(_error: BaseException | None) -> None:
    # Threads are used again: what was bound would be in the next request's lines.
    structlog.contextvars.unbind_contextvars("request_id", "trace")
