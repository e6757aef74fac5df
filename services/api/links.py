"""Where a job's files are fetched, as a caller outside can follow it."""

import math

from flask import request

from services.api.context import api
from shared.errors import ArtifactExpired, ArtifactNotReady
from shared.job import Artifact, Job
from shared.ports import Link


def expiry_of(job: Job) -> ArtifactExpired | None:
    """What a caller is told who comes after the job's files have expired."""
    return _past_retention() if job.has_expired_artifacts(api().wiring.lifecycle.now()) else None


def artifact_of(job: Job, kind: str = "video") -> Artifact:
    """Raises ``ArtifactExpired`` past its retention and ``ArtifactNotReady`` before it is stored."""
    if (expired := expiry_of(job)) is not None:
        raise expired
    artifact = job.artifact(kind)
    if artifact is None:
        raise ArtifactNotReady(job.status, kind)
    return artifact


def sign(job: Job, artifact: Artifact, *, expires_in_seconds: int) -> Link:
    """A link that needs no key, with an absolute URL; it does not outlive the file.

    Raises ``ArtifactExpired`` where no link is that short.
    """
    wiring = api().wiring
    now = wiring.lifecycle.now()
    if job.artifacts_expire_at is None:
        raise AssertionError("a job with artifacts is finished")
    seconds = min(expires_in_seconds, int((job.artifacts_expire_at - now).total_seconds()))
    if seconds < 1:
        raise _past_retention()
    link = wiring.artifacts.link(artifact.key, expires_in_seconds=seconds, now=now)
    return Link(url=_absolute(link.url), expires_at=link.expires_at)


def seconds_left(link: Link) -> int:
    """How long the link lives; 0 if it does not expire."""
    if link.expires_at is None:
        return 0
    return math.ceil((link.expires_at - api().wiring.lifecycle.now()).total_seconds())


def _past_retention() -> ArtifactExpired:
    return ArtifactExpired("The file is past its retention. Submit the job again.")


def _absolute(url: str) -> str:
    if not url.startswith("/"):
        return url
    base = api().wiring.config.server.public_url or request.host_url
    return base.rstrip("/") + url
