"""Completion webhooks: where an owner of a key is told that its jobs have ended, and what came of it."""

from typing import Literal

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import Field

from services.api.context import api, owner
from services.api.parameters import JobPath, Parameters
from services.api.replies import as_json
from services.api.specification import refusals
from shared.errors import JobNotTerminal
from shared.job import Job, JobKind
from shared.schemas import Ok
from shared.webhook import WebhookEndpoint, WebhookStatus
from shared.webhooks.deliveries import Deliveries
from shared.webhooks.endpoints import Endpoints
from shared.webhooks.events import event_id, event_type
from shared.webhooks.schemas import (
    AttemptView,
    DeliveryList,
    DeliveryStatus,
    DeliveryView,
    EndpointRequest,
    EndpointSecret,
    EndpointView,
)
from shared.webhooks.transitions import webhook_of

surface = APIBlueprint(
    "webhook_endpoint",
    __name__,
    url_prefix="/v1/webhook",
    abp_tags=[
        Tag(
            name="Completion webhooks",
            description="You are told when a job has ended, by Standard Webhooks.",
        )
    ],
    abp_security=[{"key": []}],
    operation_id_callback=lambda *, name, **_: name,
)


class DeliveryQuery(Parameters):
    limit: int = Field(default=20, ge=1, le=100, description="How many at most.")
    after: str | None = Field(
        default=None, description="The id of a job: those after it; `last_id` of a page."
    )
    status: DeliveryStatus | None = Field(default=None, description="Only those of this status.")
    kind: Literal["video", "image"] = Field(default="video", description="Of what the jobs make.")


@surface.put("", responses={200: EndpointSecret, **refusals(400, 401, 409, 413, 415, 503)})
def register_webhook(body: EndpointRequest) -> Response:
    """Register where you are told, or change it.

    The secret is in the reply when it is new. An endpoint that was disabled is told again, with the
    secret it had. Of the jobs that are submitted from now on, you are told.
    """
    endpoints = _endpoints()
    had_one = api().wiring.store.endpoint(owner()) is not None
    endpoint = endpoints.register(owner(), body.url)
    secret = None if had_one or endpoint.created_at is None else endpoint.secret
    return as_json(_with_secret(endpoint, secret))


@surface.get("", responses={200: EndpointView, **refusals(401, 404, 503)})
def read_webhook() -> Response:
    """Read where you are told."""
    return as_json(EndpointView.model_validate(_fields(_endpoints().of(owner()))))


@surface.delete("", responses={200: Ok, **refusals(401, 404, 409, 503)})
def remove_webhook() -> Response:
    """Be told no more; what is on its way is given up."""
    _endpoints().remove(owner())
    return as_json(Ok())


@surface.post("/secret", responses={200: EndpointSecret, **refusals(401, 404, 409, 503)})
def replace_webhook_secret() -> Response:
    """Get a new secret. For a day, webhooks are signed with the old one, too."""
    endpoint = _endpoints().replace_secret(owner())
    return as_json(_with_secret(endpoint, endpoint.secret))


@surface.get("/deliveries", responses={200: DeliveryList, **refusals(400, 401, 404, 503)})
def list_deliveries(query: DeliveryQuery) -> Response:
    """List what you were told and what is on its way, newest first."""
    kind: JobKind = query.kind
    page, last_id = _deliveries().list(
        owner(),
        kind=kind,
        limit=query.limit,
        after=query.after,
        status=WebhookStatus(query.status) if query.status else None,
    )
    data = [_delivery(job) for job in page.jobs]
    return as_json(DeliveryList(data=data, has_more=page.has_more, last_id=last_id))


@surface.get("/deliveries/<job_id>", responses={200: DeliveryView, **refusals(401, 404, 409, 503)})
def read_delivery(path: JobPath) -> Response:
    """Read what came of telling you of a job."""
    job = _deliveries().get(path.job_id, owner=owner())
    if not job.status.is_terminal:
        raise JobNotTerminal(job.status)
    return as_json(_delivery(job))


@surface.post(
    "/deliveries/<job_id>/retry", responses={202: DeliveryView, **refusals(401, 404, 409, 503)}
)
def retry_delivery(path: JobPath) -> Response:
    """Be told once more, now, with all retries; also of what you were told already."""
    job = _deliveries().redeliver(path.job_id, owner=owner())
    response = as_json(_delivery(job), 202)
    response.headers["Location"] = f"{surface.url_prefix}/deliveries/{job.id}"
    return response


def _endpoints() -> Endpoints:
    return api().wiring.lifecycle.endpoints


def _deliveries() -> Deliveries:
    wiring = api().wiring
    return Deliveries(store=wiring.store, queue=wiring.queue, now=wiring.lifecycle.now)


def _fields(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "url": endpoint.url,
        "created_at": endpoint.created_at,
        "disabled_at": endpoint.disabled_at,
        "old_secret_until": endpoint.old_secret_until,
    }


def _with_secret(endpoint: WebhookEndpoint, secret: str | None) -> EndpointSecret:
    return EndpointSecret.model_validate(_fields(endpoint) | {"secret": secret})


def _delivery(job: Job) -> DeliveryView:
    webhook = webhook_of(job)
    status: DeliveryStatus = "pending"
    if webhook.status is not WebhookStatus.PENDING:
        status = "delivered" if webhook.status is WebhookStatus.DELIVERED else "failed"
    return DeliveryView(
        id=event_id(job),
        job_id=job.id,
        type=event_type(job),
        status=status,
        created_at=job.finished_at or job.created_at,
        next_attempt_at=webhook.not_before,
        attempts=[AttemptView.model_validate(vars(attempt)) for attempt in webhook.attempts],
    )
