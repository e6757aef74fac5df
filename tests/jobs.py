"""A plain job, of a video or a picture, for tests that need one but for what they name."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shared.job import (
    Artifact,
    Charge,
    ImageMode,
    ImageRequest,
    InputFile,
    Job,
    RemoteWork,
    RenderRequest,
    RenderSummary,
    Retention,
)
from shared.ledger import month_of

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

REQUEST = RenderRequest(
    prompt="a red circle moving left on navy",
    model="wan2.1-demo",
    duration_seconds=5,
    resolution="480p",
    preset="reference",
    seed=7,
)
IMAGE_REQUEST = ImageRequest(
    prompt="the same circle, in green",
    model="google/nano-banana",
    mode=ImageMode.EDIT,
    aspect_ratio=None,
    inputs=(InputFile(key="images/2026-01/job_1/input-1.png", content_type="image/png"),),
)
VIDEO = Artifact(
    kind="video",
    key="videos/2026-01/job_1/final_video.mp4",
    uri="local://bucket/videos/2026-01/job_1/final_video.mp4",
    content_type="video/mp4",
    size_bytes=1000,
    sha256="0" * 64,
    width=832,
    height=480,
)
SUMMARY = RenderSummary(
    device="cpu",
    frames=81,
    fps=16,
    native_size="416x240",
    output_size="832x480",
    generation_seconds=1.5,
    phase_seconds={"generation": 1.25},
)
_PLAIN = Job(
    id="job_1",
    owner="ada",
    request=REQUEST,
    request_hash="hash",
    request_id="request",
    created_at=NOON,
    max_attempts=3,
    retention=Retention(artifact_seconds=100, job_seconds=1000),
)


def plain_job(**fields) -> Job:
    """Made at ``NOON``, accepted and nothing more."""
    return replace(_PLAIN, **fields)


def picture_job(**fields) -> Job:
    """A job that asks a provider for a picture, and counts against the month it was made in."""
    job = plain_job(**{"request": IMAGE_REQUEST} | fields)
    remote = RemoteWork(provider="replicate", gives_up_at=job.created_at + timedelta(seconds=600))
    return replace(job, charge=Charge(month=month_of(job.created_at)), remote=remote)
