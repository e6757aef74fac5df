"""A loaded Wan 2.1: what may be asked of it, and what is said when it cannot be done."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from services.gpu_worker.backends.backend import Abilities, Frames, Segment, SegmentWatcher
from services.gpu_worker.engine.checkpoint import Checkpoint
from services.gpu_worker.engine.companion_files import NO_COMPANION, CompanionFiles
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
_COLORS = 3
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


class Companion(Protocol):
    """What renders the segments that begin with a picture."""

    @property
    def takes_last_frame(self) -> bool: ...

    @property
    def needs_last_frame(self) -> bool:
        """Without one it cannot render at all."""

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        """As a renderer's, for the same renderer to decode."""


class Wan:
    """One loaded model on one device.

    One segment is denoised at a time; meanwhile one other may be decoded in another thread.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        trainings: Collection[Training],
        device: torch.device,
        frame_stride: int,
        image_to_video: Companion | None = None,
        load_image_to_video: Callable[[], Companion | None] = lambda: None,
        image_to_video_key: str = NO_COMPANION.key,
    ) -> None:
        """Without a companion, one is loaded by the first segment that needs it."""
        self._renderer = renderer
        self._image_to_video = image_to_video
        self._load_image_to_video = load_image_to_video
        self._image_to_video_key = image_to_video_key
        self.trainings = trainings
        self._device = device
        self._frame_stride = frame_stride
        self._side = _side_stream(device)

    @property
    def device(self) -> str:
        """The word "cpu", or the GPU's name."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return self._device.type

    @property
    def abilities(self) -> Abilities:
        companion = self._image_to_video
        return Abilities(
            first_frame=companion is not None,
            last_frame=companion is not None and companion.takes_last_frame,
            needs_last_frame=companion is not None and companion.needs_last_frame,
            stills=True,
        )

    def generate(self, segment: Segment, watcher: SegmentWatcher) -> "WanLatents":
        """The same segment gives the same bytes on the same kind of device.

        What the watcher raises comes through, and the next render is not the worse for it.
        """
        self._check(segment)
        renderer = self._renderer_of(segment)
        with _inference():
            latents = renderer.denoise(segment, watcher)
        return WanLatents(latents, segment.decoder, self._renderer, self._side)

    def render(self, segment: Segment, watcher: SegmentWatcher) -> Frames:
        """Denoised and decoded, in one go."""
        return self.generate(segment, watcher).decode(watcher)

    def _renderer_of(self, segment: Segment) -> Renderer | Companion:
        """Raises ``ModelUnavailable`` for pictures that nothing here can begin or end with."""
        if segment.first_frame is None:
            # A job may be older than the configuration that this worker was started with.
            check_training(self.trainings, segment.scheduler, how_to_get=_ASK_ANOTHER_WORKER)
            return self._renderer
        if self._image_to_video is None:
            self._image_to_video = self._load_image_to_video()
        companion, problem = self._image_to_video, None
        if companion is None:
            problem = "A segment that begins with a picture needs an image-to-video model"
        elif segment.last_frame is None and companion.needs_last_frame:
            problem = "This image-to-video model has to be told what a segment ends with, too"
        elif segment.last_frame is not None and not companion.takes_last_frame:
            problem = "This image-to-video model cannot be told what a segment ends with"
        if companion is None or problem:
            raise ModelUnavailable(
                f"{problem}: name the directory of Wan-AI/Wan2.1-VACE-1.3B-diffusers as "
                f"{self._image_to_video_key} in the configuration."
            )
        return companion

    def _check(self, segment: Segment) -> None:
        """Refuse what diffusers would round, or refuse in words of its own."""
        _check_pictures(segment)
        if segment.size.width % _SIZE_STEP_PIXELS or segment.size.height % _SIZE_STEP_PIXELS:
            raise InvalidRequest(
                f"The model renders widths and heights that are multiples of {_SIZE_STEP_PIXELS}."
            )
        if segment.decoder not in self._renderer.decoders:
            raise ModelUnavailable(
                f"There is no {segment.decoder} decoder here. {_ASK_ANOTHER_WORKER}"
            )
        stride = self._frame_stride
        if segment.frames < 1 or (segment.frames - 1) % stride:
            raise InvalidRequest(f"The frame count must be a multiple of {stride}, plus one.")


def _check_pictures(segment: Segment) -> None:
    if segment.last_frame is not None and segment.first_frame is None:
        raise InvalidRequest("A segment that ends with a picture begins with one, too.")
    for picture in (segment.first_frame, segment.last_frame):
        if picture is not None and (
            picture.dtype != np.uint8
            or picture.shape != (segment.size.height, segment.size.width, _COLORS)
        ):
            raise InvalidRequest(
                f"A picture that a segment begins or ends with has its size, {segment.size}, "
                "and its three colours in bytes."
            )


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
    companion: CompanionFiles = NO_COMPANION,
) -> Wan:
    """Ready to render, by the fast path.

    ``tiny_decoder`` names its weights, where it is to be there beside the model's own decoder.
    ``companion`` names what renders segments that begin with a picture, where any are to be.

    ``device`` and ``dtype`` may be "auto". Raises ``ModelUnavailable``, which says how to get the
    model, when a file is missing or broken.
    """
    where = resolve_device(device)
    checkpoint = Checkpoint(model_dir, how_to_get=how_to_get)
    number = resolve_dtype(dtype, where)
    model = checkpoint.load(device=where, dtype=number)
    return _of_model(model, number, tiny_decoder=tiny_decoder, companion=companion)


def open_snapshot(
    directory: Path,
    manifest: Manifest,
    weights: WeightsFile,
    *,
    device: str,
    dtype: str,
    tiny_decoder: Path | None = None,
    companion: CompanionFiles = NO_COMPANION,
) -> Wan:
    """Ready to render, by the fast path and what was compiled ahead.

    Raises ``SnapshotRefused`` when it was not made for this process, and ``ModelUnavailable``.
    """
    where = resolve_device(device)
    check_fits(manifest, where, dtype)
    return _of_model(
        load_snapshot(directory, manifest, weights, device=where),
        resolve_dtype(dtype, where),
        tiny_decoder=tiny_decoder,
        companion=companion,
    )


def _load_companion(
    files: CompanionFiles, dtype: torch.dtype, model: WanModel, fast_path: FastPath
) -> Companion | None:
    if files.directory is None:
        return None
    # Here, not above: a worker without it never waits for diffusers to be imported.
    from services.gpu_worker.engine.companion import load_image_to_video  # noqa: PLC0415

    return load_image_to_video(
        files.directory,
        model,
        fast_path.read,
        dtype=dtype,
        holds_first_frame=files.holds_first_frame,
    )


def _of_model(
    model: WanModel, dtype: torch.dtype, *, tiny_decoder: Path | None, companion: CompanionFiles
) -> Wan:
    tiny = None
    if tiny_decoder is not None:
        channels = model.transformer.config.channels
        tiny = load_tiny_decoder(tiny_decoder, device=model.device, latent_channels=channels)
    fast_path = FastPath(model, tiny)
    load = partial(_load_companion, companion, dtype, model, fast_path)
    return Wan(
        fast_path,
        trainings=model.trainings,
        device=model.device,
        frame_stride=model.decoder.config.frame_stride,
        image_to_video=None if companion.when_asked else load(),
        load_image_to_video=load,
        image_to_video_key=companion.key,
    )
