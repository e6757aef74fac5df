"""A schema, as an HTTP reply."""

from flask import Response

from shared.job import Job
from shared.schemas import JobAccepted, Reply


def as_json(body: Reply, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status=status, content_type="application/json")


def accepted(job: Job) -> Response:
    """202: the job is safe, and this is where to ask for it."""
    response = as_json(JobAccepted(id=job.id, status=job.status.value), 202)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return response
