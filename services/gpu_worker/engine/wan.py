"""A loaded Wan 2.1: what may be asked of it, and what is said when it cannot be done."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from services.gpu_worker.backends.backend import Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.checkpoint import Checkpoint
from services.gpu_worker.engine.device import resolve_device, resolve_dtype
from services.gpu_worker.engine.fast_path import FastPath
from services.gpu_worker.engine.manifest import Manifest
from services.gpu_worker.engine.model import WanModel
from services.gpu_worker.engine.snapshot import check_fits, load_snapshot
from services.gpu_worker.engine.tiny_decoder import load_tiny_decoder
from services.gpu_worker.engine.training import Training, check_training
from services.gpu_worker.engine.weights_file import WeightsFile
from shared.catalog import DecoderName
from shared.errors import InvalidRequest, ModelUnavailable, RenderCrashed

_ASK_ANOTHER_WORKER = "Submit the job anew, or start a worker that is set up for its preset."
_SIZE_STEP_PIXELS = 16  # diffusers refuses other sizes, whatever the model's own geometry


class Renderer(Protocol):
    """One way to render: the fast path, or diffusers' own."""

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        """(1, channels, latent frames, latent height, latent width), float32."""

    @property
    def decoders(self) -> Collection[DecoderName]:
        """Those that are there to decode with."""

    def decode(self, latents: Tensor, decoder: DecoderName, watcher: SegmentWatcher) -> Frames:
        """(frames, height, width, 3)."""


class Wan:
    """One loaded model on one device.

    One segment is denoised at a time; meanwhile one other may be decoded in another thread.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        training: Training,
        device: torch.device,
        frame_stride: int,
    ) -> None:
        self._renderer = renderer
        self.training = training
        self._device = device
        self._frame_stride = frame_stride
        self._side = _side_stream(device)

    @property
    def device(self) -> str:
        """The word "cpu", or the GPU's name."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return self._device.type

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> "WanLatents":
        """The same segment gives the same bytes on the same kind of device.

        What the watcher raises comes through, and the next render is not the worse for it.
        """
        self._check(segment)
        with _inference():
            latents = self._renderer.denoise(segment, watcher)
        return WanLatents(latents, segment.decoder, self._renderer, self._side)

    def render(self, segment: Segment, watcher: SegmentWatcher) -> Frames:
        """Denoised and decoded, in one go."""
        return self.denoise(segment, watcher).decode(watcher)

    def _check(self, segment: Segment) -> None:
        """Refuse what diffusers would round, or refuse in words of its own."""
        if segment.size.width % _SIZE_STEP_PIXELS or segment.size.height % _SIZE_STEP_PIXELS:
            raise InvalidRequest(
                f"The model renders widths and heights that are multiples of {_SIZE_STEP_PIXELS}."
            )
        # A job may be older than the configuration that this worker was started with.
        check_training(self.training, segment.scheduler, how_to_get=_ASK_ANOTHER_WORKER)
        if segment.decoder not in self._renderer.decoders:
            raise ModelUnavailable(
                f"There is no {segment.decoder} decoder here. {_ASK_ANOTHER_WORKER}"
            )
        stride = self._frame_stride
        if segment.frames < 1 or (segment.frames - 1) % stride:
            raise InvalidRequest(f"The frame count must be a multiple of {stride}, plus one.")


@dataclass(frozen=True)
class WanLatents:
    """A denoised segment, on its model's device."""

    _latents: Tensor
    _decoder: DecoderName
    _renderer: Renderer
    _stream: torch.cuda.Stream | None

    def decode(self, watcher: SegmentWatcher) -> Frames:
        """(frames, height, width, 3). What the watcher raises comes through."""
        if self._stream is not None:
            # They were made on another stream, and must not be taken for free while they are read.
            self._latents.record_stream(self._stream)
        with _inference(), torch.cuda.stream(self._stream):
            return self._renderer.decode(self._latents, self._decoder, watcher)


def _side_stream(device: torch.device) -> torch.cuda.Stream | None:
    """What is decoded goes ahead of another segment's steps, which wait in a queue of their own."""
    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]


@contextmanager
def _inference() -> Iterator[None]:
    """No gradients, in this thread; and a GPU that is full says so in our words."""
    try:
        with torch.inference_mode():
            yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise RenderCrashed(
            "The GPU ran out of memory. Give the render process a GPU of its own."
        ) from error


def load_wan(
    model_dir: Path,
    *,
    device: str,
    dtype: str,
    how_to_get: str,
    tiny_decoder: Path | None = None,
) -> Wan:
    """Ready to render, by the fast path.

    ``tiny_decoder`` names its weights, where it is to be there beside the model's own decoder.

    ``device`` and ``dtype`` may be "auto". Raises ``ModelUnavailable``, which says how to get the
    model, when a file is missing or broken.
    """
    where = resolve_device(device)
    checkpoint = Checkpoint(model_dir, how_to_get=how_to_get)
    model = checkpoint.load(device=where, dtype=resolve_dtype(dtype, where))
    return _of_model(model, tiny_decoder)


def open_snapshot(
    directory: Path,
    manifest: Manifest,
    weights: WeightsFile,
    *,
    device: str,
    dtype: str,
    tiny_decoder: Path | None = None,
) -> Wan:
    """Ready to render, by the fast path and what was compiled ahead.

    Raises ``SnapshotRefused`` when it was not made for this process, and ``ModelUnavailable``.
    """
    where = resolve_device(device)
    check_fits(manifest, where, dtype)
    return _of_model(load_snapshot(directory, manifest, weights, device=where), tiny_decoder)


def _of_model(model: WanModel, tiny_decoder: Path | None) -> Wan:
    tiny = None
    if tiny_decoder is not None:
        channels = model.transformer.config.channels
        tiny = load_tiny_decoder(tiny_decoder, device=model.device, latent_channels=channels)
    return Wan(
        FastPath(model, tiny),
        training=model.training,
        device=model.device,
        frame_stride=model.decoder.config.frame_stride,
    )
