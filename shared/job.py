"""One job, and everything known about it.

How it may change is in ``shared/transitions.py``, and for a picture in ``shared/images/transitions.py``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Tag, TypeAdapter

from shared.config_sections import GenerationMode
from shared.webhook import Webhook

# A submitter that died between writing the job and publishing it is noticed after this time.
PUBLISH_GRACE = timedelta(seconds=10)
# A queued job nobody claimed for this long gets a second message, in case the first was lost.
REPUBLISH_AFTER = timedelta(hours=1)
# A provider that has not been heard of for this long is asked, whether or not anybody looks.
REMOTE_SILENCE = timedelta(seconds=60)
# An upload still under way when its job ended has arrived, or has failed, after this time.
UPLOAD_GRACE = timedelta(seconds=60)


class JobStatus(StrEnum):
    QUEUED = "queued"  # accepted and stored; no worker has it
    STARTED = "started"  # a worker holds its lease; nothing is rendered yet
    PROGRESS = "progress"  # the worker has reported progress
    FINISHED = "finished"  # its artifacts are stored
    FAILED = "failed"  # it ended without a result; ``error`` says why
    CANCELED = "canceled"  # it was stopped on request

    @property
    def is_terminal(self) -> bool:
        return self in {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELED}


TERMINAL = frozenset(status for status in JobStatus if status.is_terminal)
IN_FLIGHT = frozenset(JobStatus) - TERMINAL


class Phase(StrEnum):
    PLAN = "plan"
    KEYFRAMES = "keyframes"
    GENERATION = "generation"
    STITCH = "stitch"
    UPLOAD = "upload"


# What part of the whole, in percent, each phase is: (from, to).
PHASE_SPANS: Mapping[Phase, tuple[int, int]] = MappingProxyType(
    {
        Phase.PLAN: (0, 2),
        Phase.KEYFRAMES: (2, 5),
        Phase.GENERATION: (5, 85),
        Phase.STITCH: (85, 97),
        Phase.UPLOAD: (97, 99),
    }
)


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A picture to start from, in the artifact store until the job has ended."""

    key: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class RenderRequest:
    """What to render, settled at submission: a retry renders the same video."""

    prompt: str
    model: str  # a name in the catalog
    duration_seconds: int  # of each segment
    resolution: str  # one of the model's public names, "480p"
    preset: str
    seed: int
    mode: GenerationMode = "single"
    segments: int = 1
    crossfade_seconds: float = 0.0
    frames: int | None = None  # instead of what the duration comes to
    steps: int | None = None  # instead of the preset's
    guidance_scale: float | None = None  # instead of the preset's
    negative_prompt: str | None = None  # instead of the model's
    first_frame: InputFile | None = None  # the picture it begins with


class ImageMode(StrEnum):
    """What a picture is made of."""

    GENERATE = "generate"  # a prompt alone
    EDIT = "edit"  # one picture, changed as the prompt says
    COMBINE = "combine"  # two pictures, brought together as the prompt says

    @property
    def inputs(self) -> int:
        """How many pictures it starts from."""
        return list(ImageMode).index(self)


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """Which picture to make, settled at submission."""

    prompt: str  # as the caller wrote it
    model: str  # a name in the catalog of image models
    mode: ImageMode
    aspect_ratio: str | None  # "16:9"; None: the first input's
    inputs: tuple[InputFile, ...]
    kind: Literal["image"] = "image"  # what a store tells it from a video by


JobKind: TypeAlias = Literal["video", "image"]


def _kind_of(request: object) -> JobKind:
    kind = request.get("kind") if isinstance(request, Mapping) else getattr(request, "kind", None)
    return "image" if kind == "image" else "video"


# By the kind alone, which a video's stored request has none of: not by which fields happen to be
# there, for newer versions may add some.
AnyRequest: TypeAlias = Annotated[
    Annotated[RenderRequest, Tag("video")] | Annotated[ImageRequest, Tag("image")],
    Discriminator(_kind_of),
]


@dataclass(frozen=True, kw_only=True)
class RemoteWork:
    """What is known of a job that a provider elsewhere has in work."""

    provider: str
    gives_up_at: datetime  # nobody waits for it any longer
    prediction_id: str | None = None  # the provider's name for it, once it has accepted
    heard_at: datetime | None = None  # when it last said something, or was asked
    ran: bool = False  # something was computed there


@dataclass(frozen=True, kw_only=True)
class Charge:
    """A job that counts against its owner's month."""

    month: str  # "2026-01"
    given_back_at: datetime | None = None  # it never ran


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long a job is kept after it has ended."""

    artifact_seconds: int
    job_seconds: int


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A worker's time-limited right to a job, held by a random token."""

    token: str
    worker: str
    claimed_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored file of a finished job."""

    kind: str  # "video", "poster", "spritesheet", "seams"; "image", "thumbnail"
    key: str  # its name in the artifact store
    uri: str  # "gs://bucket/key", or "local://bucket/key"
    content_type: str
    size_bytes: int
    sha256: str
    width: int  # pixels
    height: int


@dataclass(frozen=True, kw_only=True)
class RenderSummary:
    """What a finished render was and took."""

    device: str
    frames: int
    fps: int
    native_size: str  # "416x240": what the model rendered
    output_size: str  # "832x480": what the file holds
    generation_seconds: float  # of the attempt that succeeded: claim to encoded file
    phase_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class JobError:
    """Why a job failed, as its owner may read it."""

    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted request and everything known about it. Times are aware and in UTC."""

    id: str
    owner: str
    request: AnyRequest
    request_hash: str
    request_id: str  # of the HTTP request that made it
    created_at: datetime
    max_attempts: int
    retention: Retention
    idempotency_key: str | None = None
    traceparent: str | None = None
    status: JobStatus = JobStatus.QUEUED
    phase: Phase | None = None
    progress: int = 0  # percent
    attempt: int = 0
    lease: Lease | None = None
    published_at: datetime | None = None
    message_due_at: datetime | None = None  # after it went back: when to send a message of its own
    started_at: datetime | None = None  # of the first attempt
    finished_at: datetime | None = None  # when it became terminal
    cancel_requested_at: datetime | None = None
    artifacts: tuple[Artifact, ...] = ()  # expired ones too, until their files are removed
    artifacts_expired_at: datetime | None = None
    leftovers: bool = False  # files may be in the artifact store that are nobody's result
    summary: RenderSummary | None = None
    error: JobError | None = None
    fallen_back_from: str | None = None  # the model that was to render it
    remote: RemoteWork | None = None  # of a picture
    charge: Charge | None = None
    remixed_from: str | None = None  # the id of the video whose settings it has
    hidden_at: datetime | None = None  # its owner has deleted it: for callers it is not there
    webhook: Webhook | None = None  # that tells its owner of the end

    @property
    def kind(self) -> JobKind:
        """What it makes."""
        return _kind_of(self.request)

    @property
    def render(self) -> RenderRequest:
        """What a worker is to render; a picture comes to none."""
        if not isinstance(self.request, RenderRequest):
            raise AssertionError("a picture is not rendered by a worker")  # noqa: TRY004 - a bug of ours
        return self.request

    @property
    def input_keys(self) -> tuple[str, ...]:
        """Of the pictures it starts from, which go when it has ended."""
        if isinstance(self.request, ImageRequest):
            return tuple(file.key for file in self.request.inputs)
        return () if self.request.first_frame is None else (self.request.first_frame.key,)

    @property
    def due_at(self) -> datetime:
        """When the sweep must next look at this job, whatever its state."""
        if self.kept_until is not None:
            told_at = self.webhook.due_at if self.webhook else None
            return self.kept_until if told_at is None else min(told_at, self.kept_until)
        if self.lease is not None:
            return self.lease.expires_at
        if self.remote is not None and self.remote.prediction_id is None:
            return self.remote.gives_up_at  # nobody could be asked about it
        if self.remote is not None:
            silent_at = (self.remote.heard_at or self.created_at) + REMOTE_SILENCE
            return min(silent_at, self.remote.gives_up_at)
        if self.published_at is None:
            return self.message_due_at or self.created_at + PUBLISH_GRACE
        return self.published_at + REPUBLISH_AFTER

    @property
    def artifacts_expire_at(self) -> datetime | None:
        """When a finished job's files are past their retention; None for any other job."""
        if self.status is not JobStatus.FINISHED or self.finished_at is None:
            return None
        return self.finished_at + timedelta(seconds=self.retention.artifact_seconds)

    def has_expired_artifacts(self, now: datetime) -> bool:
        """Past its retention a file is gone for callers, whether or not the sweep has come by."""
        if self.artifacts_expired_at is not None:
            return True
        return self.artifacts_expire_at is not None and now >= self.artifacts_expire_at

    def artifact(self, kind: str) -> Artifact | None:
        return next((artifact for artifact in self.artifacts if artifact.kind == kind), None)

    @property
    def kept_until(self) -> datetime | None:
        """When something of an ended job is to be removed: files, or the job itself."""
        return None if self.finished_at is None else self.finished_at + self._kept

    @property
    def _kept(self) -> timedelta:
        if self.leftovers and (self.artifacts_expired_at is None or self.hidden_at is not None):
            return UPLOAD_GRACE
        if self.leftovers or self.artifacts:
            return timedelta(seconds=self.retention.artifact_seconds)
        return timedelta(seconds=self.retention.job_seconds)


# --- names and stored form


def artifact_folder(job: Job, *, prefix: str) -> str:
    """Where the job's files are kept, and nobody else's."""
    return f"{prefix}/{job.created_at:%Y-%m}/{job.id}"


def artifact_key(job: Job, *, prefix: str, name: str) -> str:
    """Where a file of the job is kept: the same for every attempt, so the first one stays."""
    return f"{artifact_folder(job, prefix=prefix)}/{name}"


def parts_folder(job: Job, *, prefix: str) -> str:
    """Where what is done of an unfinished job is kept, apart for each model that has tried."""
    return f"{artifact_folder(job, prefix=prefix)}/parts/{job.request.model}"


def hash_request(body: Mapping[str, Any]) -> str:
    """A fingerprint of a create request: equal for equal bodies, whatever the order of keys."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_document(job: Job) -> str:
    """The job as JSON text."""
    return _adapter().dump_json(job).decode()


def from_document(document: str | bytes) -> Job:
    return _adapter().validate_json(document)


@cache
def _adapter() -> TypeAdapter[Job]:
    return TypeAdapter(Job)
