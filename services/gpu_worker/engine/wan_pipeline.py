"""Wan 2.1 through diffusers: text to latents to frames, with true progress and a way to stop.

Works on any directory in the layout of ``Wan-AI/Wan2.1-T2V-1.3B-Diffusers``; never uses the network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from torch import Tensor
from transformers.utils import logging as transformers_logging

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from shared.errors import InvalidRequest, ModelUnavailable, RenderCrashed

_SIZE_STEP_PIXELS = 16  # diffusers refuses other sizes, whatever the model's own geometry

# Without these the libraries go on with defaults of their own and render nonsense; a missing
# weight file they do notice. A tokenizer comes in either of its two formats.
_PARTS = {
    "scheduler": ("scheduler_config.json",),
    "text_encoder": ("config.json",),
    "tokenizer": ("tokenizer.json", "spiece.model"),
    "transformer": ("config.json",),
    "vae": ("config.json",),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Wan:
    """One loaded pipeline on one device. Not thread-safe: one render at a time."""

    def __init__(self, pipeline: WanPipeline, device: torch.device) -> None:
        self._pipeline = pipeline
        self._device = device

    @property
    def device(self) -> str:
        """The word "cpu", or the GPU's name."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return self._device.type

    def render(self, segment: Segment, watcher: SegmentWatcher) -> Frames:
        """The same segment gives the same bytes on the same kind of device.

        What the watcher raises comes through, and the next render is not the worse for it.
        """
        self._check(segment)
        try:
            with torch.inference_mode():
                latents = self._denoise(segment, watcher)
                frames = self._decode(latents, watcher)
                return _to_uint8(frames).cpu().numpy()
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise RenderCrashed(
                "The GPU ran out of memory. Give the render process a GPU of its own."
            ) from error

    def _check(self, segment: Segment) -> None:
        """Refuse what diffusers would round, or refuse in words of its own."""
        if segment.size.width % _SIZE_STEP_PIXELS or segment.size.height % _SIZE_STEP_PIXELS:
            raise InvalidRequest(
                f"The model renders widths and heights that are multiples of {_SIZE_STEP_PIXELS}."
            )
        stride = self._pipeline.vae_scale_factor_temporal
        if segment.frames < 1 or (segment.frames - 1) % stride:
            raise InvalidRequest(f"The frame count must be a multiple of {stride}, plus one.")

    def _denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
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
                guidance_scale=segment.guidance_scale,
                # Noise is drawn on the CPU, so a seed means the same on every device.
                generator=torch.Generator("cpu").manual_seed(segment.seed),
                callback_on_step_end=on_step_end,
                output_type="latent",
            ).frames
        return latents

    def _decode(self, latents: Tensor, watcher: SegmentWatcher) -> Tensor:
        """(1, 3, frames, height, width), -1 to 1; Wan decodes one latent frame after the other."""
        vae = self._pipeline.vae
        latents = latents.to(vae.dtype)
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).to(latents).view(shape)
        std = torch.tensor(vae.config.latents_std).to(latents).view(shape)
        latent_frames = latents.shape[2]
        with _after_each_call(vae.decoder, lambda done: watcher.decoded(done / latent_frames)):
            frames: Tensor = vae.decode(latents * std + mean, return_dict=False)[0]
        return frames


def load_wan(model_dir: Path, *, device: str, dtype: str, how_to_get: str) -> Wan:
    """Load every part of the pipeline. ``device`` and ``dtype`` may be "auto".

    Raises ``ModelUnavailable``, which says how to get the model, when a file is missing or broken.
    """
    _check_complete(model_dir, how_to_get)
    where = _resolve_device(device)
    kind = _resolve_dtype(dtype, where)
    # A render process writes logs, not to a terminal: bars would be noise there.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    files = {"local_files_only": True, "use_safetensors": True}
    try:
        # The authors decode in float32: bfloat16 shows as banding.
        vae = AutoencoderKLWan.from_pretrained(
            model_dir, subfolder="vae", dtype=torch.float32, **files
        )
        pipeline = WanPipeline.from_pretrained(model_dir, vae=vae, dtype=kind, **files)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelUnavailable(f"The model's files cannot be read. {how_to_get}") from error
    try:
        pipeline.to(where)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable("The model does not fit into the GPU's memory.") from error
    pipeline.set_progress_bar_config(disable=True)
    return Wan(pipeline, where)


def _check_complete(model_dir: Path, how_to_get: str) -> None:
    if not (model_dir / "model_index.json").is_file():
        raise ModelUnavailable(f"The model is not there. {how_to_get}")
    for part, files in _PARTS.items():
        if not any((model_dir / part / file).is_file() for file in files):
            raise ModelUnavailable(f"The model's {part} is missing or incomplete. {how_to_get}")


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable('There is no CUDA device here: set the device to "auto" or "cpu".')
    return torch.device(name)


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]


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
