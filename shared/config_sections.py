"""The sections of promptreel.yaml and their defaults: plain data, each valid in itself.

What they must be together is in ``shared/config.py``.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

# Bounded, because a moment that far ahead must still be a date.
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Days = Annotated[int, Field(gt=0, le=36_500)]
Count = Annotated[int, Field(gt=0, le=10**9)]
BackendName = Literal["wan2.1", "veo3"]
GenerationMode = Literal["single", "keyframe", "chaining"]
ImageProviderName = Literal["replicate", "gemini"]
# YAML has no type for a path.
FilePath = Annotated[Path, Field(strict=False)]


# A name, all names below one, or a whole origin.
OutputHost = Annotated[
    str, Field(pattern=r"^((\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+|https?://[^/@\s]+)$")
]

_ORIGIN = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9]\d{0,4}))?")
_USUAL_PORTS = {("http", "80"), ("https", "443")}


def _as_browsers_write_it(origin: str) -> str:
    """Another spelling would never be equal to what a browser sends. Raises ``ValueError``."""
    match = _ORIGIN.fullmatch(origin)
    if match is None or (match[1], match[3]) in _USUAL_PORTS:
        raise ValueError(
            "must be an exact origin as a browser sends it, such as https://app.example.com: in "
            "lower case, without a path, a wildcard, or a port that is the usual one"
        )
    return origin


Origin = Annotated[str, AfterValidator(_as_browsers_write_it)]


class Section(BaseModel):
    # Strict: `threads: yes` is a mistake, not one thread.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Http3(Section):
    """HTTPS by this server itself, with HTTP/3, 2 and 1.1 at one port number."""

    host: str | None = None
    port: int = Field(default=8443, ge=0, le=65535)
    certificate_file: FilePath
    key_file: FilePath
    event_loop: Literal["trio", "asyncio"] = "trio"
    body_seconds: Seconds = 120


class Server(Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    threads: Count = 32
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    cors_origins: list[Origin] = Field(default_factory=list)
    key_file: FilePath = Path("keys.json")
    key_secret: str | None = Field(
        default=None, pattern=r"^projects/[a-z0-9-]+/secrets/[A-Za-z0-9_-]{1,255}$"
    )
    http3: Http3 | None = None


class Limits(Section):
    prompt_max_chars: Count = 2000
    body_max_bytes: Count = 64 * 1024
    log_lines_per_job: Count = 2000
    queued_per_model: Count | None = 1000
    queued_per_owner: Count | None = 500
    in_flight_per_owner: Count | None = None
    submissions_per_minute_per_owner: Count | None = None
    requests_per_minute_per_key: Count | None = None
    requests_per_minute_per_address: Count | None = None
    wrong_keys_per_minute_per_address: Count | None = 30
    streams_per_owner: Count | None = None


class RenderDefaults(Section):
    model: str = "wan2.1-shapes"
    preset: str = "reference"
    duration_seconds: Count = 5
    resolution: str = "480p"
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    frames: Count | None = None
    steps: Count | None = None
    guidance_scale: float | None = Field(default=None, ge=1, le=100)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class ModelFiles(Section):
    dir: FilePath | None = None  # None: in Promptreel's own package, for those trained there
    snapshot: FilePath | None = None
    tiny_decoder: FilePath | None = None
    image_to_video: FilePath | None = None


class Vertex(Section):
    project: str | None = None
    location: str = Field(default="us-central1", pattern=r"^[a-z0-9-]+$")
    credentials_file: FilePath | None = None
    api_key_file: FilePath | None = None
    base_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    veo_model: str = Field(default="veo-3.1-generate-001", pattern=r"^[a-z0-9][a-z0-9.-]*$")
    output_gcs_uri: str | None = Field(default=None, pattern=r"^gs://[a-z0-9][a-z0-9._-]+(/.*)?$")
    sound: bool = False
    request_seconds: Seconds = 120
    max_retries: int = Field(default=3, ge=0, le=100)
    poll_seconds: Seconds = 10

    @property
    def names_who_asks(self) -> bool:
        return self.project is not None or self.api_key_file is not None


class Worker(Section):
    backend: BackendName | None = None
    lease_seconds: Seconds = 30
    heartbeat_seconds: Seconds = 5
    grace_seconds: Seconds = 10
    memory_limit_mb: Count | None = None
    load_timeout_seconds: Seconds = 300
    max_attempts: Count = 3
    jobs_at_once: int = Field(default=4, ge=1, le=4)
    sweep_seconds: Seconds = 5
    metrics_port: int | None = Field(default=8001, gt=0, le=65535)

    @model_validator(mode="after")
    def _heartbeats_outrun_the_lease(self) -> Self:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self


class Queue(Section):
    visibility_seconds: Seconds = 60
    backoff_min_seconds: Seconds = 1
    backoff_max_seconds: Seconds = 60
    max_deliveries: Count = 20


class Artifacts(Section):
    bucket: str = Field(default="promptreel", pattern=r"^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$")
    prefix: str = Field(
        default="videos", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$"
    )
    link_seconds: Count = 3600
    link_max_seconds: Count = 12 * 3600

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Self:
        if self.link_seconds > self.link_max_seconds:
            raise ValueError("link_seconds must not be above link_max_seconds")
        return self


class Replicate(Section):
    api_token_file: FilePath | None = None
    webhook_secret_file: FilePath | None = None
    allow_unsigned_webhooks: bool = False
    base_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    output_hosts: list[OutputHost] = Field(
        default_factory=lambda: ["replicate.delivery", "*.replicate.delivery"]
    )
    request_seconds: Seconds = 30

    @property
    def download_seconds(self) -> float:
        """How long one picture may take to fetch, tries included."""
        return 2 * self.request_seconds


class Images(Section):
    """Pictures that a provider elsewhere makes."""

    model: str = "google/nano-banana"
    stale_seconds: Seconds = 5
    overall_seconds: Seconds = 600
    input_max_bytes: Count = 10 * 1024 * 1024
    input_max_pixels: Count = 25_000_000
    input_link_seconds: Count = 300
    output_max_bytes: Count = 25 * 1024 * 1024
    output_max_pixels: Count = 50_000_000
    thumbnail_pixels: Count = 256
    blocked_words: list[str] = Field(default_factory=list)
    moderation: str | None = Field(default=None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    replicate: Replicate = Replicate()


class ConfiguredEndpoint(Section):
    """Where an owner is told of the ends of its jobs, and what that is signed with."""

    url: str = Field(pattern=r"^https?://[^/@\s]+(/[^\s]*)?$")
    secret_file: FilePath


class Webhooks(Section):
    """How owners are told that a job has ended."""

    endpoints: dict[str, ConfiguredEndpoint] = Field(default_factory=dict)
    # 17 and a half hours, more and more seldom: as Standard Webhooks advises.
    retry_seconds: list[Seconds] = Field(
        default_factory=lambda: [5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0], max_length=19
    )
    request_seconds: float = Field(default=15, gt=0, le=60)
    at_once: int = Field(default=16, ge=1, le=256)
    at_once_per_owner: int = Field(default=4, ge=1, le=256)
    allow_private_addresses: bool = False


class Plan(Section):
    """What an owner may have."""

    images_per_month: int = Field(default=20, ge=0, le=10**9)
    images_in_flight: Count = 1
    image_models: list[str] = Field(default_factory=lambda: ["google/nano-banana"])


class Telemetry(Section):
    traces: Literal["off", "otlp", "cloud_trace"] = "off"
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$")
    sample_ratio: float = Field(default=1.0, ge=0, le=1)

    @field_validator("traces", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: object) -> object:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value


class Generate(Section):
    wait_seconds: Seconds = 300


class RetentionDays(Section):
    artifact_days: Days = 7
    job_days: Days = 30

    @model_validator(mode="after")
    def _jobs_outlive_their_artifacts(self) -> Self:
        if self.artifact_days > self.job_days:
            raise ValueError("artifact_days must not be above job_days")
        return self


class Caller(Section):
    """A Google service that calls us: whom its tokens must name, and for whom they must be made."""

    audience: str | None = None
    service_account: str | None = None
    checked_by_cloud_run: bool = False

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.audience is None) != (self.service_account is None):
            raise ValueError("give audience and service_account together, or neither")
        return self


class Gcp(Section):
    project: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")
    database: str = "(default)"
    topic_prefix: str = Field(default="", pattern=r"^([A-Za-z][A-Za-z0-9._-]*)?$")
    credentials_file: FilePath | None = None
    signing: Literal["iam", "key_file", "public"] = "iam"
    push: Caller = Caller()
    scheduler: Caller = Caller()

    @model_validator(mode="after")
    def _a_key_file_to_sign_with(self) -> Self:
        if self.signing == "key_file" and self.credentials_file is None:
            raise ValueError("signing: key_file needs credentials_file")
        return self
