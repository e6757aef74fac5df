"""Surface A: whether somebody can render, told from the workers' own heartbeats."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from services.api.context import api
from services.api.errors import RETRY_AFTER_SECONDS
from services.api.replies import as_json
from services.api.specification import refusals
from services.api.workers import live_workers
from shared.errors import StoreUnavailable
from shared.job import JobStatus
from shared.ports import WorkerBeat
from shared.schemas import Health

surface = APIBlueprint(
    "health",
    __name__,
    abp_tags=[Tag(name="Operations", description="Is it up, is it ready, what does it do.")],
    operation_id_callback=lambda *, name, **_: name,
)


@surface.get("/health", responses={200: Health, 503: Health, **refusals()})
def health() -> Response:
    """Say whether somebody can render."""
    report = _health()
    if report.status != "unhealthy":
        return as_json(report)
    response = as_json(report, 503)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _health() -> Health:
    wiring = api().wiring
    try:
        beats = live_workers(wiring)
        counts = wiring.store.counts()
    except StoreUnavailable:
        return Health(
            status="unhealthy",
            model_loaded=False,
            gpu=None,
            workers=None,
            jobs_queued=None,
            jobs_running=None,
            message="The job store does not answer. Nothing can be accepted; see the API's log.",
        )
    ready = [beat for beat in beats if beat.model_loaded]
    return Health(
        # Degraded, not unhealthy: jobs are accepted and kept, and a worker may start from zero.
        status="healthy" if ready else "degraded",
        model_loaded=bool(ready),
        gpu=ready[0].device if ready else None,
        workers=len(beats),
        jobs_queued=counts[JobStatus.QUEUED],
        jobs_running=counts[JobStatus.STARTED] + counts[JobStatus.PROGRESS],
        message=_why(len(beats), ready, in_cloud=wiring.config.profile == "gcp"),
    )


def _why(workers: int, ready: list[WorkerBeat], *, in_cloud: bool) -> str:
    if ready:
        return f"{len(ready)} of {workers} live workers have their model loaded."
    if workers:
        return "A worker is loading its model. Jobs are accepted and wait for it."
    if in_cloud:
        return (
            "No worker is alive: they are scaled to zero. Jobs are accepted; the next starts one."
        )
    return "No worker is running. Jobs are accepted and wait until one starts."
