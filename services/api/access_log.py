"""One log line and one measurement a request: never its query, its body or its key."""

import re
import time
import uuid

import structlog
from flask import Flask, Response, g, request

from services.api.context import api
from shared.telemetry import continue_trace, trace_id

log = structlog.get_logger("promptreel.http")

_REQUEST_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def register_access_log(app: Flask) -> None:
    """Must be registered before anything that may refuse a request: refusals are logged too."""
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_forget)


def _begin() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    g.traceparent = continue_trace(request.headers.get("traceparent"))
    g.began = time.monotonic()
    structlog.contextvars.bind_contextvars(request_id=g.request_id, trace=trace_id(g.traceparent))


def _finish(response: Response) -> Response:
    seconds = time.monotonic() - g.began
    # Both come from the caller: names of our own keep the number of time series small.
    method = request.method if request.method in _METHODS else "other"
    route = request.url_rule.rule if request.url_rule else "unmatched"
    metrics = api().wiring.metrics
    metrics.http_requests.labels(method, route, str(response.status_code)).inc()
    metrics.http_seconds.labels(method, route).observe(seconds)
    log.info(
        "request",
        method=method,
        route=route,
        status=response.status_code,
        seconds=round(seconds, 4),
        owner=g.get("owner"),
    )
    response.headers["X-Request-ID"] = g.request_id
    return response


def _forget(_error: BaseException | None) -> None:
    # Threads are used again: what was bound would be in the next request's lines.
    structlog.contextvars.unbind_contextvars("request_id", "trace")
