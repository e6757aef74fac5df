"""What the OpenAPI page shows as examples: plain data, valid against the schemas (a test says so)."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.api.error_examples import REQUEST_ID

_JOB_ID = "job_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04"
_URI = f"local://promptreel/videos/2026-01/{_JOB_ID}/final_video.mp4"
_URL = (
    f"http://127.0.0.1:8000/outputs/videos/2026-01/{_JOB_ID}/final_video.mp4"
    "?expires=1769864400&signature=0f5c…"
)
_PROMPT = "a red circle moving left on navy"

_GENERATION = {
    "id": _JOB_ID,
    "predictionId": "ufawqhfynnddngldkgtslldrkq",
    "status": "starting",
    "settings": {"mode": "generate", "model": "google/nano-banana", "aspectRatio": "1:1"},
}
_JOB = {
    "id": _JOB_ID,
    "status": "finished",
    "progress": 100,
    "created_at": "2026-01-31T12:00:00Z",
    "started_at": "2026-01-31T12:00:01Z",
    "finished_at": "2026-01-31T12:00:43Z",
    "gcs_uri": _URI,
    "error": None,
    "queue_position": None,
    "estimated_seconds_left": None,
    "cost_usd": 0.011948,
}
_PICTURE = "http://127.0.0.1:8000/outputs/public/renders/render_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04/0"

_FINISHED = json.dumps(_JOB, separators=(",", ":"))
_LINE = '{"line":"2026-01-31T12:00:01Z attempt 1 of 3 on NVIDIA L4"}'
# What is sent of a job that has ended and has said one thing.
EVENTS = f"""\
event: job
id: 0
data: {_FINISHED}

event: log
id: 1
data: {_LINE}

event: end
id: 1
data: {_FINISHED}

"""

# One of them, as a reader of events hands it over.
EVENT: Mapping[str, str] = MappingProxyType({"event": "log", "id": "1", "data": _LINE})

_VIDEO = {
    "id": _JOB_ID,
    "object": "video",
    "created_at": 1769860800,
    "completed_at": 1769860843,
    "expires_at": 1770465643,
    "model": "wan2.1",
    "progress": 100,
    "prompt": _PROMPT,
    "remixed_from_video_id": None,
    "seconds": "5",
    "size": "832x480",
    "status": "completed",
    "error": None,
}

_ENDPOINT = {
    "url": "https://reel.example/hooks/promptreel",
    "created_at": "2026-01-31T11:00:00Z",
    "disabled_at": None,
    "old_secret_until": None,
}
_DELIVERY = {
    "id": "evt_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04",
    "job_id": _JOB_ID,
    "type": "video.completed",
    "status": "delivered",
    "created_at": "2026-01-31T12:00:43Z",
    "next_attempt_at": None,
    "attempts": [
        {
            "at": "2026-01-31T12:00:43Z",
            "seconds": 15.0,
            "status": None,
            "error": "No answer within 15 s.",
        },
        {"at": "2026-01-31T12:01:04Z", "seconds": 0.12, "status": 204, "error": None},
    ],
}

# By the name of the schema.
EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ArtifactLink": {"gcs_uri": _URI, "url": _URL, "expires_in": 3600},
        "DeliveryList": {"data": [_DELIVERY], "has_more": False, "last_id": _JOB_ID},
        "DeliveryView": _DELIVERY,
        "EndpointRequest": {"url": _ENDPOINT["url"]},
        "EndpointSecret": _ENDPOINT
        | {"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYq="},
        "EndpointView": _ENDPOINT,
        "GenerationAccepted": _GENERATION,
        "GenerationChange": {"action": "cancel"},
        "GenerationRequest": {"prompt": "a paper boat on a pond", "aspectRatio": "1:1"},
        "GenerationView": _GENERATION
        | {
            "status": "succeeded",
            "createdAt": "2026-01-31T12:00:00Z",
            "finishedAt": "2026-01-31T12:00:09Z",
            "renderId": "render_5f0c6a3d2b9e4c0f8a7d1e6b3c2f9a04",
            "variants": [
                {
                    "index": 0,
                    "url": f"{_PICTURE}.jpg?expires=1769864400&signature=0f5c…",
                    "thumbnailUrl": f"{_PICTURE}_thumbnail.jpg?expires=1769864400&signature=a91d…",
                    "width": 1024,
                    "height": 1024,
                    "expiresAt": "2026-01-31T13:00:09Z",
                }
            ],
            "deletedAt": None,
            "error": None,
        },
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
                "request_id": REQUEST_ID,
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
        "JobDetails": _JOB,
        "JobList": {"data": [_JOB], "has_more": True, "last_id": _JOB_ID},
        "JobLogs": {"lines": ["2026-01-31T12:00:01Z attempt 1: plan"]},
        "JobRequest": {"prompt": _PROMPT},
        "Ok": {"ok": True},
        "Readiness": {"status": "ready", "checks": {"queue": "ok", "store": "ok"}},
        "Prediction": {
            "id": "ufawqhfynnddngldkgtslldrkq",
            "status": "succeeded",
            "output": ["https://replicate.delivery/xezq/picture.jpg"],
        },
        "Swept": {
            "published": 1,
            "requeued": 0,
            "asked": 0,
            "ended": 0,
            "announced": 0,
            "expired": 2,
            "tidied": 2,
            "forgotten": 0,
        },
        "UsageView": {
            "plan": "free",
            "month": "2026-01",
            "limit": 20,
            "used": 3,
            "remaining": 17,
            "resetsAt": "2026-02-01T00:00:00Z",
        },
        "Video": _VIDEO,
        "VideoDeleted": {"id": _JOB_ID, "object": "video.deleted", "deleted": True},
        "VideoPage": {
            "object": "list",
            "data": [_VIDEO],
            "first_id": _JOB_ID,
            "last_id": _JOB_ID,
            "has_more": False,
        },
        "VideoRemix": {"prompt": "the same circle, in green"},
        "VideoRequest": {"prompt": _PROMPT, "seconds": "5", "size": "832x480", "seed": 7},
    }
)

# What the same schema holds where it comes with a 503.
EXAMPLES_OF_TROUBLE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "Health": {
            "status": "unhealthy",
            "model_loaded": False,
            "gpu": None,
            "workers": None,
            "jobs_queued": None,
            "jobs_running": None,
            "message": "The job store does not answer. Nothing can be accepted; see the API's log.",
        },
        "Readiness": {
            "status": "unavailable",
            "checks": {"queue": "ok", "store": "the database cannot be used (SQLITE_CANTOPEN)"},
        },
    }
)
