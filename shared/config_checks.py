"""What the keys of a configuration must be together, so that what it offers is possible.

Whatever is refused says which key to change; the sections have checked what each is by itself.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.catalog import CATALOG, Model, Preset
from shared.config_sections import (
    BackendName,
    GenerationMode,
    Images,
    ModelFiles,
    Plan,
    RenderDefaults,
    Vertex,
)
from shared.errors import InvalidRequest
from shared.image_catalog import IMAGE_MODELS

# The plan of every owner who has no other.
FREE = "free"


class Rendering(Protocol):
    """What a configuration says of its renders."""

    @property
    def default_backend(self) -> BackendName: ...
    @property
    def fallback_backend(self) -> BackendName | None: ...
    @property
    def generation_mode(self) -> GenerationMode: ...
    @property
    def crossfade_seconds(self) -> float: ...
    @property
    def planner(self) -> str: ...
    @property
    def image_generation_model(self) -> str | None: ...
    @property
    def render(self) -> RenderDefaults: ...
    @property
    def models(self) -> Mapping[str, ModelFiles]: ...
    @property
    def backends(self) -> Sequence[BackendName]: ...
    @property
    def vertex_access(self) -> Vertex: ...
    def model_of(self, backend: BackendName) -> str: ...


class Offering(Protocol):
    """What a configuration says of who may have which pictures."""

    @property
    def images(self) -> Images: ...
    @property
    def plans(self) -> Mapping[str, Plan]: ...
    @property
    def plan_of_owner(self) -> Mapping[str, str]: ...


def check_plans(config: Offering) -> None:
    """Raises ``ValueError`` in words for whoever wrote the file."""
    if FREE not in config.plans:
        raise ValueError(f"plans: add {FREE}, the plan of every owner who has no other")
    for owner, plan in config.plan_of_owner.items():
        if plan not in config.plans:
            raise ValueError(f"plan_of_owner.{owner}: there is no plan {plan!r}")
    models = {
        f"plans.{name}.image_models": plan.image_models for name, plan in config.plans.items()
    }
    for key, names in (models | {"images.model": [config.images.model]}).items():
        for name in names:
            if name not in IMAGE_MODELS:
                raise ValueError(f"{key}: {name!r} is none of {', '.join(IMAGE_MODELS)}")


def check_rendering(config: Rendering) -> None:
    """Raises ``ValueError`` in words for whoever wrote the file."""
    if config.fallback_backend == config.default_backend:
        raise ValueError(f"fallback_backend: {config.default_backend} is the default already")
    _check_wan(config)
    for backend in config.backends:
        _check_clip(config, CATALOG[config.model_of(backend)])
    if "veo3" in config.backends:
        _check_vertex(
            config, "default_backend" if config.default_backend == "veo3" else "fallback_backend"
        )
    if config.planner != "deterministic":
        _check_vertex(config, "planner")
    if config.generation_mode == "keyframe" and config.image_generation_model is not None:
        _check_vertex(config, "image_generation_model")


def _check_wan(config: Rendering) -> None:
    render = config.render
    if render.model not in CATALOG or CATALOG[render.model].backend != "wan2.1":
        known = ", ".join(name for name, model in CATALOG.items() if model.backend == "wan2.1")
        raise ValueError(f"render.model: {render.model!r} is not in the catalog ({known})")
    files = config.models.get(render.model, ModelFiles())
    for name, each in {**config.models, render.model: files}.items():
        if each.dir is None and name in CATALOG and CATALOG[name].packaged is None:
            raise ValueError(f"models: add {name}.dir, where the model's files are")
    model = CATALOG[render.model]
    if render.preset not in model.presets:
        offered = ", ".join(sorted(model.presets))
        raise ValueError(f"render.preset: {render.model} offers {offered}")
    preset = model.presets[render.preset]
    if preset.decoder == "tiny" and files.tiny_decoder is None:
        raise ValueError(
            f"models.{render.model}.tiny_decoder: render.preset {render.preset} needs it, "
            "the path of taew2_1.safetensors from https://github.com/madebyollin/taehv"
        )
    _check_settings(render, model)
    if config.generation_mode != "single" and "wan2.1" in config.backends:
        _check_long_videos(config, preset)


def _check_settings(render: RenderDefaults, model: Model) -> None:
    try:
        model.check_settings(
            render.preset,
            steps=render.steps,
            guidance_scale=render.guidance_scale,
            frames=render.frames,
        )
    except InvalidRequest as error:
        reason = error.message.removesuffix(".")
        raise ValueError(f"render.{error.field}: {reason[0].lower()}{reason[1:]}") from error


def _check_long_videos(config: Rendering, preset: Preset) -> None:
    name, mode = config.render.model, config.generation_mode
    if preset.scheduler == "dmd":
        raise ValueError(
            f"render.preset: {config.render.preset} renders single clips only; generation_mode "
            f"{mode} needs reference or balanced"
        )
    files = config.models.get(name, ModelFiles())
    if files.image_to_video is None and not CATALOG[name].holds_first_frame:
        raise ValueError(
            f"models.{name}.image_to_video: generation_mode {mode} needs a model that begins with "
            "a picture; Wan-AI/Wan2.1-VACE-1.3B-diffusers is one"
        )


def _check_clip(config: Rendering, model: Model) -> None:
    render = config.render
    try:
        model.check_duration(render.duration_seconds)
        model.output_size(render.resolution)
    except InvalidRequest as error:
        key = "duration_seconds" if error.field == "duration" else error.field
        raise ValueError(f"render.{key}: {error.message}") from error
    # Each segment gives its beginning to one fade and its end to another.
    if (
        config.generation_mode != "single"
        and config.crossfade_seconds * 2 >= render.duration_seconds
    ):
        raise ValueError("crossfade_seconds: must be less than half of render.duration_seconds")


def _check_vertex(config: Rendering, key: str) -> None:
    if not config.vertex_access.names_who_asks:
        raise ValueError(
            f"vertex.project: {key} asks Google's Vertex AI; name a project, or vertex.api_key_file"
        )
