"""promptreel.yaml: the one pipeline configuration, loaded, validated and merged here.

Relative paths are relative to the file. Every key is documented once, in ``config/promptreel.yaml``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.catalog import CATALOG
from shared.errors import ConfigurationError, InvalidRequest

# Where a configuration is looked for when none is named, from the working directory.
DEFAULT_FILES = (Path("config/promptreel.yaml"), Path("promptreel.yaml"))

# Bounded, because a moment that far ahead must still be a date.
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Days = Annotated[int, Field(gt=0, le=36_500)]
Count = Annotated[int, Field(gt=0, le=10**9)]
# YAML has no type for a path.
FilePath = Annotated[Path, Field(strict=False)]


class _Section(BaseModel):
    # Strict: `threads: yes` is a mistake, not one thread.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Server(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]+(/[^\s]*)?$")
    threads: Count = 32
    key_file: FilePath = Path("keys.json")


class Limits(_Section):
    prompt_max_chars: Count = 2000
    body_max_bytes: Count = 64 * 1024
    log_lines_per_job: Count = 2000
    queued_per_model: Count | None = 1000
    queued_per_owner: Count | None = 500
    in_flight_per_owner: Count | None = None
    submissions_per_minute_per_owner: Count | None = None


class RenderDefaults(_Section):
    model: str = "wan2.1-demo"
    preset: str = "reference"
    duration_seconds: Count = 5
    resolution: str = "480p"
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class ModelFiles(_Section):
    dir: FilePath
    snapshot: FilePath | None = None
    tiny_decoder: FilePath | None = None


class Worker(_Section):
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


class Queue(_Section):
    visibility_seconds: Seconds = 60
    backoff_min_seconds: Seconds = 1
    backoff_max_seconds: Seconds = 60
    max_deliveries: Count = 20


class Artifacts(_Section):
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


class Generate(_Section):
    wait_seconds: Seconds = 300


class RetentionDays(_Section):
    artifact_days: Days = 7
    job_days: Days = 30

    @model_validator(mode="after")
    def _jobs_outlive_their_artifacts(self) -> Self:
        if self.artifact_days > self.job_days:
            raise ValueError("artifact_days must not be above job_days")
        return self


class Caller(_Section):
    """A Google service that calls us: whom its tokens must name, and for whom they must be made."""

    audience: str | None = None
    service_account: str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.audience is None) != (self.service_account is None):
            raise ValueError("give audience and service_account together, or neither")
        return self


class Gcp(_Section):
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


def _default_models() -> dict[str, ModelFiles]:
    return {
        "wan2.1": ModelFiles(dir=Path("models/Wan2.1-T2V-1.3B-Diffusers")),
        "wan2.1-demo": ModelFiles(dir=Path("models/wan2.1-demo")),
    }


class Config(_Section):
    """A valid configuration; all its paths are absolute."""

    profile: Literal["local", "gcp"] = "local"
    data_dir: FilePath = Path("state")
    prompt: str | None = None
    server: Server = Server()
    limits: Limits = Limits()
    render: RenderDefaults = RenderDefaults()
    models: dict[str, ModelFiles] = Field(default_factory=_default_models)
    worker: Worker = Worker()
    queue: Queue = Queue()
    artifacts: Artifacts = Artifacts()
    generate: Generate = Generate()
    retention: RetentionDays = RetentionDays()
    gcp: Gcp = Gcp()

    @model_validator(mode="after")
    def _the_cloud_needs_a_project(self) -> Self:
        if self.profile == "gcp" and self.gcp.project is None:
            raise ValueError("gcp.project: name the Google Cloud project to use")
        return self

    @model_validator(mode="after")
    def _the_default_render_is_possible(self) -> Self:
        render = self.render
        if render.model not in CATALOG:
            known = ", ".join(sorted(CATALOG))
            raise ValueError(f"render.model: {render.model!r} is not in the catalog ({known})")
        if render.model not in self.models:
            raise ValueError(f"models: add {render.model}.dir, where the model's files are")
        model = CATALOG[render.model]
        if render.preset not in model.presets:
            offered = ", ".join(sorted(model.presets))
            raise ValueError(f"render.preset: {render.model} offers {offered}")
        needs_tiny_decoder = model.presets[render.preset].decoder == "tiny"
        if needs_tiny_decoder and self.models[render.model].tiny_decoder is None:
            raise ValueError(
                f"models.{render.model}.tiny_decoder: render.preset {render.preset} needs it, "
                "the path of taew2_1.safetensors from https://github.com/madebyollin/taehv"
            )
        try:
            model.check_duration(render.duration_seconds)
            model.output_size(render.resolution)
        except InvalidRequest as error:
            key = "duration_seconds" if error.field == "duration" else error.field
            raise ValueError(f"render.{key}: {error.message}") from error
        return self

    @property
    def model_dir(self) -> Path:
        """Where the files of the model to render with are."""
        return self.models[self.render.model].dir

    @property
    def snapshot_dir(self) -> Path | None:
        """Where what was baked of them is, if anything was."""
        return self.models[self.render.model].snapshot

    @property
    def tiny_decoder(self) -> Path | None:
        """The weights of its tiny decoder, if there are any."""
        return self.models[self.render.model].tiny_decoder


def find_config(named: Path | None) -> Path | None:
    """The file to use: the named one, else the first default that exists, else none."""
    if named is not None:
        return named
    return next((path for path in DEFAULT_FILES if path.is_file()), None)


def load_config(file: Path | None) -> Config:
    """Read and validate a configuration; without a file, the built-in defaults.

    Raises ``ConfigurationError`` naming the file, every key that is wrong, and why.
    """
    if file is None:
        return _absolute(Config(), user_data_path("promptreel"))
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(file, [("", "the file does not exist")]) from None
    except OSError as error:
        raise ConfigurationError(file, [("", f"cannot be read: {error.strerror}")]) from error
    # ValueError: not UTF-8, or a date with a thirteenth month. RecursionError: a tower of brackets.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(file, [("", f"is not YAML: {error}")]) from error
    if data is not None and not isinstance(data, dict):
        raise ConfigurationError(file, [("", "must be a mapping of keys to values")])
    try:
        config = Config.model_validate(data or {})
    except ValidationError as error:
        raise ConfigurationError(file, _problems(error)) from error
    return _absolute(config, file.resolve().parent)


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    return [
        (
            ".".join(str(part) for part in problem["loc"]),
            problem["msg"].removeprefix("Value error, "),
        )
        for problem in error.errors(include_url=False, include_input=False)
    ]


def _absolute(config: Config, folder: Path) -> Config:
    data_dir = folder / config.data_dir
    key_file = data_dir / config.server.key_file
    credentials_file = config.gcp.credentials_file
    if credentials_file is not None:
        credentials_file = (folder / credentials_file).resolve()
    return config.model_copy(
        update={
            "gcp": config.gcp.model_copy(update={"credentials_file": credentials_file}),
            "data_dir": data_dir.resolve(),
            "server": config.server.model_copy(update={"key_file": key_file.resolve()}),
            "models": {
                name: _absolute_files(files, folder) for name, files in config.models.items()
            },
        }
    )


def _absolute_files(files: ModelFiles, folder: Path) -> ModelFiles:
    given = files.model_dump(exclude_none=True)
    return ModelFiles(**{key: (folder / path).resolve() for key, path in given.items()})


# --- one merge: what a run really uses


@dataclass(frozen=True, kw_only=True)
class EffectiveConfig:
    """The configuration and the prompt of one run."""

    config: Config
    prompt: str


def build_effective_config(
    base: Config, cli: dict[str, Any] | None = None, http: dict[str, Any] | None = None
) -> EffectiveConfig:
    """The only merge: the prompt of HTTP wins over the command line's, that over the file's.

    HTTP can override nothing but the prompt. Nothing is written back. Raises ``InvalidRequest``
    when nobody gave a prompt, or when HTTP tries to override something else.
    """
    foreign = sorted(set(http or {}) - {"prompt"})
    if foreign:
        raise InvalidRequest(
            f"Only the prompt can be given; remove {', '.join(foreign)}.", field=foreign[0]
        )
    for source in (http or {}, cli or {}, {"prompt": base.prompt}):
        prompt = source.get("prompt")
        if prompt is not None:
            return EffectiveConfig(config=base, prompt=prompt)
    raise InvalidRequest("Give a prompt: describe the video to make.", field="prompt")
