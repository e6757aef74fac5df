"""What the render process is told: the configuration and the job, spelled out by the catalog."""

from pathlib import Path, PurePosixPath

from services.gpu_worker.protocol import Load, Render
from shared.catalog import Model
from shared.config import Config
from shared.job import RenderRequest


def load_order(config: Config) -> Load:
    """What a render process of this configuration holds, and whom it asks."""
    return Load(
        model=config.worker_model,
        model_dir=config.model_dir,
        snapshot_dir=config.snapshot_dir,
        device=config.render.device,
        dtype=config.render.dtype,
        preset=config.render.preset,
        tiny_decoder=config.tiny_decoder,
        image_to_video_dir=config.companion_dir,
        image_to_video_when_asked=config.image_to_video_dir is None,
        vertex=config.vertex_access if config.vertex_access.names_who_asks else None,
        planner=None if config.planner == "deterministic" else config.planner,
        painter=config.painter,
        image_size=config.image_size,
        reference_images=tuple(config.reference_images),
        telemetry=config.telemetry,
        trace_project=config.gcp.project,
    )


def first_frame_in(work_dir: Path, request: RenderRequest) -> Path | None:
    """Where the picture that the video begins with is brought, if it begins with any."""
    given = request.first_frame
    return None if given is None else work_dir / PurePosixPath(given.key).name


def render_command(
    job_id: str,
    request: RenderRequest,
    model: Model,
    work_dir: Path,
    *,
    traceparent: str | None = None,
) -> Render:
    """What the render process is told: the request, spelled out by the catalog."""
    preset = model.presets[request.preset]
    steps = request.steps or preset.steps
    output = model.output_size(request.resolution)
    return Render(
        job_id=job_id,
        prompt=request.prompt,
        negative_prompt=(
            model.negative_prompt if request.negative_prompt is None else request.negative_prompt
        ),
        seed=request.seed,
        frames=request.frames or model.frames(request.duration_seconds),
        fps=model.fps,
        native_width=model.native_size.width,
        native_height=model.native_size.height,
        output_width=output.width,
        output_height=output.height,
        steps=steps,
        guidance_scale=request.guidance_scale or preset.guidance_scale,
        flow_shift=preset.flow_shift,
        scheduler=preset.scheduler,
        timesteps=preset.timesteps,
        # The same share of them as of the preset's.
        guided_steps=round(preset.guided_steps * steps / preset.steps) if preset.steps else 0,
        decoder=preset.decoder,
        mode=request.mode,
        segments=request.segments,
        crossfade_frames=round(request.crossfade_seconds * model.fps),
        work_dir=work_dir,
        first_frame=first_frame_in(work_dir, request),
        traceparent=traceparent,
    )
