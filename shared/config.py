"""promptreel.yaml: the one pipeline configuration, loaded, validated and merged here.

Relative paths are relative to the file. Every key is documented once, in ``config/promptreel.yaml``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from platformdirs import user_data_path
from pydantic import Field, ValidationError, model_validator

from shared.catalog import PACKAGED, find_model
from shared.config_checks import FREE, check_plans, check_rendering
from shared.config_sections import (
    Artifacts,
    BackendName,
    FilePath,
    Gcp,
    Generate,
    GenerationMode,
    Images,
    Limits,
    ModelFiles,
    Plan,
    Queue,
    RenderDefaults,
    RetentionDays,
    Section,
    Server,
    Telemetry,
    Vertex,
    Webhooks,
    Worker,
)
from shared.errors import ConfigurationError, InvalidRequest

# Where a configuration is looked for when none is named, from the working directory.
DEFAULT_FILES = (Path("config/promptreel.yaml"), Path("promptreel.yaml"))

# Not asked of ``importlib``: an API's image has no worker to import.
_INSTALLED = Path(__file__).parents[1]

# Veo draws no stills.
_VEOS_PAINTER = "gemini-2.5-flash-image"


def _default_models() -> dict[str, ModelFiles]:
    return {
        "wan2.1": ModelFiles(dir=Path("models/Wan2.1-T2V-1.3B-Diffusers")),
        "wan2.1-demo": ModelFiles(
            dir=Path("models/wan2.1-demo"),
            image_to_video=Path("models/wan2.1-demo/image-to-video"),
        ),
        "wan2.1-shapes": ModelFiles(),
    }


class Config(Section):
    """A valid configuration; all its paths are absolute."""

    profile: Literal["local", "gcp"] = "local"
    data_dir: FilePath = Path("state")
    output_dir: FilePath = Path("out")
    prompt: str | None = None
    default_backend: BackendName = "wan2.1"
    fallback_backend: BackendName | None = None
    generation_mode: GenerationMode = "single"
    segments: int = Field(default=3, ge=1, le=100)
    crossfade_seconds: float = Field(default=0.0, ge=0, le=10)
    planner: str = Field(default="deterministic", pattern=r"^(deterministic|gemini-[a-z0-9.-]+)$")
    image_generation_model: str | None = Field(default=None, pattern=r"^gemini-[a-z0-9.-]+$")
    image_size: str = Field(default="1344x768", pattern=r"^[1-9]\d{2,3}x[1-9]\d{2,3}$")
    reference_images: list[FilePath] = Field(default_factory=list, max_length=3)
    server: Server = Server()
    limits: Limits = Limits()
    render: RenderDefaults = RenderDefaults()
    models: dict[str, ModelFiles] = Field(default_factory=_default_models)
    vertex: Vertex = Vertex()
    worker: Worker = Worker()
    queue: Queue = Queue()
    artifacts: Artifacts = Artifacts()
    generate: Generate = Generate()
    images: Images = Images()
    webhooks: Webhooks = Webhooks()
    plans: dict[str, Plan] = Field(default_factory=lambda: {FREE: Plan()})
    plan_of_owner: dict[str, str] = Field(default_factory=dict)
    retention: RetentionDays = RetentionDays()
    gcp: Gcp = Gcp()
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _the_cloud_needs_a_project(self) -> Self:
        if self.profile == "gcp" and self.gcp.project is None:
            raise ValueError("gcp.project: name the Google Cloud project to use")
        if self.telemetry.traces == "cloud_trace" and self.gcp.project is None:
            raise ValueError("gcp.project: name it, telemetry.traces is cloud_trace")
        return self

    @model_validator(mode="after")
    def _the_default_render_is_possible(self) -> Self:
        check_rendering(self)
        return self

    @model_validator(mode="after")
    def _every_owner_has_a_plan(self) -> Self:
        check_plans(self)
        return self

    @property
    def model_name(self) -> str:
        """Of the model that renders by default, as the catalog has it."""
        return self.model_of(self.default_backend)

    def model_of(self, backend: BackendName) -> str:
        """The model that a backend renders with."""
        return self.render.model if backend == "wan2.1" else backend

    @property
    def worker_model(self) -> str:
        """Of the model that a worker with this configuration has."""
        return self.model_of(self.worker.backend or self.default_backend)

    @property
    def backends(self) -> tuple[BackendName, ...]:
        """Those that jobs may come to need, the default first."""
        named = (self.default_backend, self.fallback_backend)
        return tuple(backend for backend in named if backend is not None)

    @property
    def vertex_access(self) -> Vertex:
        """The section ``vertex``; whoever names no project there means that of the whole."""
        if self.vertex.names_who_asks:
            return self.vertex
        return self.vertex.model_copy(update={"project": self.gcp.project})

    @property
    def painter(self) -> str | None:
        """The Gemini model that draws keyframes; None: the video model draws them itself."""
        if self.image_generation_model is None and self.default_backend == "veo3":
            return _VEOS_PAINTER
        return self.image_generation_model

    @property
    def model_dir(self) -> Path:
        """Where the files of the model to render with are."""
        return self.dir_of(self.render.model)

    def dir_of(self, name: str) -> Path:
        """Where a model's files are: where the section ``models`` says, else among our own."""
        directory = self._files_of(name).dir
        return directory or _INSTALLED / PACKAGED / (find_model(name).packaged or name)

    @property
    def snapshot_dir(self) -> Path | None:
        """Where what was baked of them is, if anything was."""
        return self._files_of(self.render.model).snapshot

    @property
    def tiny_decoder(self) -> Path | None:
        """The weights of its tiny decoder, if there are any."""
        return self._files_of(self.render.model).tiny_decoder

    @property
    def companion_dir(self) -> Path | None:
        """Where what begins a clip with a given picture is, if it is anywhere."""
        model = find_model(self.render.model)
        named = self._files_of(model.name).image_to_video
        return named or (self.model_dir if model.holds_first_frame else None)

    def _files_of(self, name: str) -> ModelFiles:
        """What comes with Promptreel needs no entry."""
        return self.models.get(name, ModelFiles())

    @property
    def image_to_video_dir(self) -> Path | None:
        """The same, if every video of several clips asks for it."""
        return None if self.generation_mode == "single" else self.companion_dir


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

    def placed(path: Path | None) -> Path | None:
        return None if path is None else (folder / path).resolve()

    gcp, vertex, replicate = config.gcp, config.vertex, config.images.replicate
    http3 = config.server.http3
    http3_files = (
        {}
        if http3 is None
        else {
            "certificate_file": placed(http3.certificate_file),
            "key_file": placed(http3.key_file),
        }
    )
    replicate_files = {
        "api_token_file": placed(replicate.api_token_file),
        "webhook_secret_file": placed(replicate.webhook_secret_file),
    }
    vertex_files = {
        "credentials_file": placed(vertex.credentials_file),
        "api_key_file": placed(vertex.api_key_file),
    }
    return config.model_copy(
        update={
            "gcp": gcp.model_copy(update={"credentials_file": placed(gcp.credentials_file)}),
            "vertex": vertex.model_copy(update=vertex_files),
            "images": config.images.model_copy(
                update={"replicate": replicate.model_copy(update=replicate_files)}
            ),
            "webhooks": config.webhooks.model_copy(
                update={
                    "endpoints": {
                        owner: endpoint.model_copy(
                            update={"secret_file": placed(endpoint.secret_file)}
                        )
                        for owner, endpoint in config.webhooks.endpoints.items()
                    }
                }
            ),
            "reference_images": [placed(image) for image in config.reference_images],
            "data_dir": data_dir.resolve(),
            "output_dir": (folder / config.output_dir).resolve(),
            "server": config.server.model_copy(
                update={
                    "key_file": key_file.resolve(),
                    "http3": http3 and http3.model_copy(update=http3_files),
                }
            ),
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
    base: Config, cli: Mapping[str, Any] | None = None, http: Mapping[str, Any] | None = None
) -> EffectiveConfig:
    """The only merge: the prompt of HTTP wins over the command line's, that over the file's.

    The command line may override any other key of the file, too, HTTP nothing but the prompt. Nothing is
    written back. Raises ``InvalidRequest`` when nobody gave a prompt, or when HTTP tries to override
    something else, and ``ConfigurationError`` when what the command line says cannot be.
    """
    foreign = sorted(set(http or {}) - {"prompt"})
    if foreign:
        raise InvalidRequest(
            f"Only the prompt can be given; remove {', '.join(foreign)}.", field=foreign[0]
        )
    said = {key: value for key, value in (cli or {}).items() if value is not None}
    config = overridden(base, {key: said[key] for key in said if key != "prompt"})
    for source in (http or {}, said, {"prompt": base.prompt}):
        prompt = source.get("prompt")
        if prompt is not None:
            return EffectiveConfig(config=config, prompt=prompt)
    raise InvalidRequest("Give a prompt: describe the video to make.", field="prompt")


def for_backend(config: Config, backend: str) -> Config:
    """The configuration of a worker that renders with this backend. Raises ``ConfigurationError``."""
    return overridden(config, {"worker": config.worker.model_dump() | {"backend": backend}})


def overridden(config: Config, keys: Mapping[str, Any]) -> Config:
    """The configuration with other values for some of its keys. Raises ``ConfigurationError``."""
    if not keys:
        return config
    try:
        return Config.model_validate(config.model_dump() | dict(keys))
    except ValidationError as error:
        raise ConfigurationError(None, _problems(error)) from error
