"""Wan 2.1 as diffusers renders it: slower, and what the fast path is held against."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers.utils import logging as transformers_logging

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.checkpoint import Checkpoint
from services.gpu_worker.engine.device import resolve_device, resolve_dtype
from services.gpu_worker.engine.wan import Wan
from shared.catalog import DecoderName
from shared.errors import InvalidRequest, ModelUnavailable


def load_pipeline(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype
) -> WanPipeline:
    """Diffusers' own pipeline on the device. Raises ``ModelUnavailable``. Never uses the network."""
    # A render process writes logs, not to a terminal: bars would be noise there.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    files = {"local_files_only": True, "use_safetensors": True}
    # The authors decode in float32: bfloat16 shows as banding.
    vae = AutoencoderKLWan.from_pretrained(
        checkpoint.directory, subfolder="vae", dtype=torch.float32, **files
    )
    pipeline = WanPipeline.from_pretrained(checkpoint.directory, vae=vae, dtype=dtype, **files)
    try:
        pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable("The model does not fit into the GPU's memory.") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Reference:
    """diffusers' own pipeline, with true progress and a way to stop."""

    decoders: tuple[DecoderName, ...] = ("full",)

    def __init__(self, pipeline: WanPipeline) -> None:
        self._pipeline = pipeline

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        """(1, channels, latent frames, latent height, latent width), float32.

        Raises ``InvalidRequest`` for a preset that diffusers' pipeline has no way to follow.
        """
        _check(segment)
        pipeline = self._pipeline
        pipeline.scheduler = UniPCMultistepScheduler.from_config(
            pipeline.scheduler.config, flow_shift=segment.flow_shift
        )

        def on_step_end(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - diffusers' signature
            watcher.step_done(index + 1, segment.steps)
            return tensors

        with _after_each_call(pipeline.text_encoder, lambda _: watcher.text_encoded()):
            latents: Tensor = pipeline(
                prompt=segment.prompt,
                negative_prompt=segment.negative_prompt,
                height=segment.size.height,
                width=segment.size.width,
                num_frames=segment.frames,
                num_inference_steps=segment.steps,
                guidance_scale=segment.guidance_scale if segment.steps_with_guidance else 1.0,
                # Noise is drawn on the CPU, so a seed means the same on every device.
                generator=torch.Generator("cpu").manual_seed(segment.seed),
                callback_on_step_end=on_step_end,
                output_type="latent",
            ).frames
        return latents

    def decode(self, latents: Tensor, _: DecoderName, watcher: SegmentWatcher) -> Frames:
        """(frames, height, width, 3); Wan decodes one latent frame after the other."""
        vae = self._pipeline.vae
        latents = latents.to(vae.dtype)
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).to(latents).view(shape)
        std = torch.tensor(vae.config.latents_std).to(latents).view(shape)
        latent_frames = latents.shape[2]
        with _after_each_call(vae.decoder, lambda done: watcher.decoded(done / latent_frames)):
            frames: Tensor = vae.decode(latents * std + mean, return_dict=False)[0]
        return _to_uint8(frames).cpu().numpy()


def _check(segment: Segment) -> None:
    problem = None
    if segment.scheduler != "unipc":
        problem = f"the scheduler {segment.scheduler}"
    elif segment.steps_with_guidance not in (0, segment.steps):
        problem = "guidance in some of the steps only"
    elif segment.decoder != "full":
        problem = f"the {segment.decoder} decoder"
    if problem:
        raise InvalidRequest(f"The reference path cannot render with {problem}.")


@contextmanager
def _after_each_call(module: torch.nn.Module, report: Callable[[int], None]) -> Iterator[None]:
    """While the context lasts, ``report`` learns how many times the module has been called."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1
        report(calls)

    hook = module.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _to_uint8(frames: Tensor) -> Tensor:
    """(frames, height, width, 3) in bytes, made on the device: a quarter of what floats weigh."""
    return frames[0].add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 3, 0).contiguous()


def load_reference(model_dir: Path, *, device: str, dtype: str, how_to_get: str) -> Wan:
    """The model that ``load_wan`` loads, rendered by diffusers' own pipeline."""
    where = resolve_device(device)
    checkpoint = Checkpoint(model_dir, how_to_get=how_to_get)
    pipeline = load_pipeline(checkpoint, device=where, dtype=resolve_dtype(dtype, where))
    stride: int = pipeline.vae_scale_factor_temporal
    return Wan(
        Reference(pipeline), trainings={checkpoint.training}, device=where, frame_stride=stride
    )
