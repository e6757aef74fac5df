"""Surface B: what a load balancer, an orchestrator and Prometheus ask."""

from collections.abc import Callable

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from services.api.context import api
from services.api.errors import RETRY_AFTER_SECONDS
from services.api.replies import as_json
from services.api.specification import refusals
from shared.errors import TransientError
from shared.schemas import Ok, Readiness

surface = APIBlueprint(
    "operations",
    __name__,
    abp_tags=[Tag(name="Operations", description="Is it up, is it ready, what does it do.")],
    operation_id_callback=lambda *, name, **_: name,
)

_METRICS_EXAMPLE = 'promptreel_jobs{status="queued"} 2.0\n'


@surface.get("/healthz", responses={200: Ok, **refusals()})
def healthz() -> Response:
    """Say that this process answers."""
    return as_json(Ok())


@surface.get("/readyz", responses={200: Readiness, 503: Readiness, **refusals()})
def readyz() -> Response:
    """Say whether jobs can be accepted, and if not, what does not answer."""
    wiring = api().wiring
    checks = {"store": _check(wiring.store.ping), "queue": _check(wiring.queue.ping)}
    if all(result == "ok" for result in checks.values()):
        return as_json(Readiness(status="ready", checks=checks))
    response = as_json(Readiness(status="unavailable", checks=checks), 503)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


@surface.get(
    "/metrics",
    responses={
        200: {
            "content": {
                "text/plain": {"schema": {"type": "string"}, "example": _METRICS_EXAMPLE},
            }
        },
        **refusals(),
    },
)
def metrics() -> Response:
    """Read the metrics of this process, in Prometheus's text format."""
    body = generate_latest(api().wiring.metrics.registry)
    return Response(body, content_type=CONTENT_TYPE_LATEST)


def _check(ping: Callable[[], None]) -> str:
    try:
        ping()
    except TransientError as error:
        return error.message
    return "ok"
