"""What the OpenAPI page shows as examples: plain data, valid against the schemas (a test says so)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_JOB_ID = "job_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04"
_URI = f"local://promptreel/videos/2026-01/{_JOB_ID}/final_video.mp4"
_URL = (
    f"http://127.0.0.1:8000/outputs/videos/2026-01/{_JOB_ID}/final_video.mp4"
    "?expires=1769864400&signature=0f5c…"
)
_PROMPT = "a red circle moving left on navy"

# By the name of the schema.
EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ArtifactLink": {"gcs_uri": _URI, "url": _URL, "expires_in": 3600},
        "GenerateRequest": {"prompt": _PROMPT, "duration": 5, "resolution": "480p"},
        "GenerateReply": {
            "status": "success",
            "output_url": _URL,
            "expires_at": "2026-01-31T13:00:00Z",
            "metadata": {
                "prompt": _PROMPT,
                "duration": 5,
                "generation_time_seconds": 41.2,
                "model": "wan2.1",
                "request_id": "4c1f9d5e8b7a4d3f9e2c6b1a0d8f7e55",
                "job_id": _JOB_ID,
                "checkpoint": "wan2.1",
                "resolution": "480p",
                "size": "832x480",
                "native_size": "832x480",
                "frames": 81,
                "fps": 16,
                "seed": 42,
                "device": "NVIDIA L4",
                "queue_seconds": 0.2,
                "phase_seconds": {"generation": 38.9, "stitch": 2.3},
            },
        },
        "Health": {
            "status": "healthy",
            "model_loaded": True,
            "gpu": "NVIDIA L4",
            "workers": 1,
            "jobs_queued": 0,
            "jobs_running": 1,
            "message": "A worker has its model loaded.",
        },
        "JobAccepted": {"id": _JOB_ID, "status": "queued"},
        "JobLogs": {"lines": ["2026-01-31T12:00:01Z attempt 1: plan"]},
        "JobRequest": {"prompt": _PROMPT},
        "JobView": {
            "id": _JOB_ID,
            "status": "finished",
            "progress": 100,
            "created_at": "2026-01-31T12:00:00Z",
            "started_at": "2026-01-31T12:00:01Z",
            "finished_at": "2026-01-31T12:00:43Z",
            "gcs_uri": _URI,
            "error": None,
        },
        "Ok": {"ok": True},
        "Readiness": {"status": "ready", "checks": {"queue": "ok", "store": "ok"}},
    }
)

# By status: what an error of it may look like.
ERROR_EXAMPLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "400": ("invalid_request", "`prompt`: the prompt is empty; describe the video to make."),
        "401": ("unauthenticated", "Send a valid API key: `Authorization: Bearer <key>`."),
        "403": (
            "link_tampered",
            "The link's signature is not valid. Ask the job for a new link.",
        ),
        "404": (
            "job_not_found",
            "There is no such job. Check the id; a job is visible to its owner only.",
        ),
        "409": (
            "idempotency_conflict",
            "This Idempotency-Key was used with another request. Send a new key with a new request.",
        ),
        "410": ("artifact_expired", "This link has expired. Ask the job for a new one."),
        "413": ("body_too_large", "The body has more than 65536 bytes. Send a shorter one."),
        "415": ("unsupported_content_type", "Send the body as `Content-Type: application/json`."),
        "416": ("range_not_satisfiable", "The file is shorter; Content-Range has its size."),
        "422": ("invalid_request", "`prompt` is missing; add it."),
        "429": (
            "queue_full",
            "The queue is full: at most 1000 jobs may wait for this model. Try again in 42 s.",
        ),
        "500": (
            "internal_error",
            "Something went wrong on our side. Try again; if it stays, report the request_id.",
        ),
        "502": ("render_crashed", "The render process died. Submit the job again."),
        "503": (
            "store_unavailable",
            "A part of the service does not answer at the moment. Try again in a few seconds.",
        ),
    }
)
