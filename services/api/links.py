"""Where a job's files are fetched, as a caller outside can follow it."""

from flask import request

from services.api.context import api
from shared.errors import ArtifactExpired, ArtifactNotReady
from shared.job import Artifact, Job
from shared.ports import Link


def video_of(job: Job) -> Artifact:
    """Raises ``ArtifactExpired`` past its retention and ``ArtifactNotReady`` before it is stored."""
    video = job.artifact("video")
    if video is not None:
        return video
    if job.artifacts_expired_at is not None:
        raise ArtifactExpired("The file is past its retention. Submit the job again.")
    raise ArtifactNotReady(job.status)


def sign(artifact: Artifact, *, expires_in_seconds: int) -> Link:
    """A link that needs no key, with an absolute URL."""
    wiring = api().wiring
    link = wiring.artifacts.link(
        artifact.key, expires_in_seconds=expires_in_seconds, now=wiring.lifecycle.now()
    )
    return Link(url=_absolute(link.url), expires_at=link.expires_at)


def _absolute(url: str) -> str:
    if not url.startswith("/"):
        return url
    base = api().wiring.config.server.public_url or request.host_url
    return base.rstrip("/") + url
