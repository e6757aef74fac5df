"""A plain job, for tests that need one like any other but for what they name."""

from dataclasses import replace
from datetime import UTC, datetime

from shared.job import Artifact, Job, RenderRequest, RenderSummary, Retention

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

REQUEST = RenderRequest(
    prompt="a red circle moving left on navy",
    model="wan2.1-demo",
    duration_seconds=5,
    resolution="480p",
    preset="reference",
    seed=7,
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
