"""Segments that begin, and perhaps end, with a given picture: by diffusers' own pipelines.

The prompts are read by the fast path's text encoder, and its decoder makes the frames: only what
those two cannot do is loaded a second time.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from services.gpu_worker.backends.backend import Picture, Segment, SegmentWatcher
from services.gpu_worker.engine.denoise import attention_for
from services.gpu_worker.engine.text import TOKENS_MAX
from shared.errors import InvalidRequest

_GREY = 0.5  # of a frame that is still to be drawn: VACE's authors give 127.5 of 255
_DRAW, _KEEP = 1.0, 0.0  # in VACE's mask

# Reads a segment's prompts: (1, tokens, text width) each; the negative one's only where it guides.
ReadPrompts = Callable[[Segment, SegmentWatcher], list[Tensor]]


class Conditions(Protocol):
    """How one kind of model is told what a segment begins and ends with."""

    @property
    def takes_last_frame(self) -> bool: ...

    @property
    def needs_last_frame(self) -> bool:
        """Without one it cannot render at all."""

    def arguments(self, segment: Segment) -> dict[str, Any]:
        """What its pipeline is called with, for the pictures of this segment."""


class ByVideo:
    """VACE's way: a grey video with the pictures in their places, and a mask of what to draw."""

    takes_last_frame = True
    needs_last_frame = False

    def arguments(self, segment: Segment) -> dict[str, Any]:
        assert segment.first_frame is not None  # noqa: S101 - the caller has looked
        shape = (segment.frames, segment.size.height, segment.size.width)
        video = np.full((*shape, 3), _GREY, np.float32)
        mask = np.full((*shape, 1), _DRAW, np.float32)
        video[0], mask[0] = _of_one(segment.first_frame), _KEEP
        if segment.last_frame is not None:
            video[-1], mask[-1] = _of_one(segment.last_frame), _KEEP
        return {"video": video[None], "mask": mask[None]}


class ByPicture:
    """The way of Wan's image-to-video models: the pictures themselves, one or two as trained for."""

    def __init__(self, *, pictures: int) -> None:
        self.takes_last_frame = self.needs_last_frame = pictures > 1

    def arguments(self, segment: Segment) -> dict[str, Any]:
        assert segment.first_frame is not None  # noqa: S101 - the caller has looked
        arguments = {"image": Image.fromarray(segment.first_frame)}
        if segment.last_frame is not None:
            arguments["last_image"] = Image.fromarray(segment.last_frame)
        return arguments


class ImageToVideo:
    """One companion in memory, beside the model whose text encoder and decoder it goes with."""

    def __init__(
        self,
        pipeline: Any,  # noqa: ANN401 - one of diffusers' two
        conditions: Conditions,
        read: ReadPrompts,
    ) -> None:
        self._pipeline = pipeline
        self._conditions = conditions
        self._read = read

    @property
    def takes_last_frame(self) -> bool:
        return self._conditions.takes_last_frame

    @property
    def needs_last_frame(self) -> bool:
        return self._conditions.needs_last_frame

    def denoise(self, segment: Segment, watcher: SegmentWatcher) -> Tensor:
        """(1, channels, latent frames, latent height, latent width), float32.

        The first latent frame is the encoded picture, exactly. Raises ``InvalidRequest`` for a
        preset of distilled weights.
        """
        _check(segment)
        assert segment.first_frame is not None  # noqa: S101 - the caller has looked
        pipeline = self._pipeline
        embeddings = [_padded(text) for text in self._read(segment, watcher)]
        pipeline.scheduler = UniPCMultistepScheduler.from_config(
            pipeline.scheduler.config, flow_shift=segment.flow_shift
        )
        noise = self._noise(segment)
        seam = _Seam(encode_picture(pipeline.vae, segment.first_frame), noise)

        def on_step_end(
            _: Any,  # noqa: ANN401 - diffusers' signature
            index: int,
            __: Any,  # noqa: ANN401
            tensors: dict[str, Any],
        ) -> dict[str, Any]:
            # The noise that is left after this step: the scheduler has the level before it, too.
            left = pipeline.scheduler.sigmas[index + 1]
            latents = seam.hold(tensors["latents"], left)
            if index + 1 == segment.steps_with_guidance:
                # diffusers' own way to end guidance early: its pipelines look it up at every step.
                pipeline._guidance_scale = 1.0  # noqa: SLF001
            if latents.device.type == "cuda":
                # Else all steps would be told, and could be stopped, before the first is done.
                torch.cuda.current_stream(latents.device).synchronize()
            watcher.step_done(index + 1, segment.steps)
            return {"latents": latents}

        with attention_for(noise.device):
            latents: Tensor = pipeline(
                **self._conditions.arguments(segment),
                prompt_embeds=embeddings[0],
                negative_prompt_embeds=embeddings[1] if len(embeddings) > 1 else None,
                height=segment.size.height,
                width=segment.size.width,
                num_frames=segment.frames,
                num_inference_steps=segment.steps,
                guidance_scale=segment.guidance_scale if segment.steps_with_guidance else 1.0,
                latents=noise,
                callback_on_step_end=on_step_end,
                output_type="latent",
            ).frames
        return latents

    def _noise(self, segment: Segment) -> Tensor:
        vae = self._pipeline.vae.config
        shape = (
            *(1, vae.z_dim, (segment.frames - 1) // vae.scale_factor_temporal + 1),
            *(
                segment.size.height // vae.scale_factor_spatial,
                segment.size.width // vae.scale_factor_spatial,
            ),
        )
        # Drawn on the CPU, so a seed means the same on every device.
        generator = torch.Generator("cpu").manual_seed(segment.seed)
        return torch.randn(shape, generator=generator).to(self._pipeline.device)


class ByHolding:
    """A text-to-video model's: it is told nothing, and goes on from the frame that is held for it."""

    takes_last_frame = needs_last_frame = False

    def arguments(self, segment: Segment) -> dict[str, Any]:  # noqa: ARG002 - as the others
        return {}


class _Seam:
    """Keeps the first latent frame on its own way from the noise to the encoded picture.

    These models come close to the picture they are given, not to it: a clip of several segments
    would jump a little at each seam, and drift with every one. So after each step the first latent
    frame is put where it would be by now if the model had known the picture: what diffusers does
    for models that know no mask (``StableDiffusionInpaintPipeline``), and for the first frame of
    Wan 2.2 (``expand_timesteps``). A first latent frame is decoded to one frame without the others,
    so the segment begins with the picture that the one before ended with, whatever the model made
    of it.
    """

    def __init__(self, picture: Tensor, noise: Tensor) -> None:
        self._picture = picture
        self._noise = noise[:, :, :1]

    def hold(self, latents: Tensor, noise_left: Tensor) -> Tensor:
        """The latents with the first frame as it is with so much noise left, 0 to 1."""
        sigma = noise_left.to(latents)
        first = (1 - sigma) * self._picture + sigma * self._noise
        return torch.cat([first, latents[:, :, 1:]], dim=2)


def encode_picture(vae: Any, picture: Picture) -> Tensor:  # noqa: ANN401 - an AutoencoderKLWan
    """(1, channels, 1, latent height, latent width), as the transformer sees latents."""
    pixels = torch.from_numpy(_of_one(picture) * 2 - 1).permute(2, 0, 1)[None, :, None]
    encoded = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode().float()
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).to(encoded).view(shape)
    # Its inverse, as diffusers' pipelines have it: a quotient would differ in the last bit.
    scale = 1.0 / torch.tensor(vae.config.latents_std).to(encoded).view(shape)
    normalised: Tensor = (encoded - mean) * scale
    return normalised


def _of_one(picture: Picture) -> npt.NDArray[np.float32]:
    """Bytes as parts of one, which is what diffusers takes arrays to be."""
    return picture.astype(np.float32) / np.float32(255)


def _padded(embedding: Tensor) -> Tensor:
    """As the transformer was trained: with zeros up to ``TOKENS_MAX`` tokens."""
    return pad(embedding, (0, 0, 0, TOKENS_MAX - embedding.shape[1]))


def _check(segment: Segment) -> None:
    if segment.scheduler != "unipc":
        raise InvalidRequest(
            "This preset's few steps are for weights distilled to text alone, and this clip has "
            "segments that begin with a picture. Use the preset reference or balanced.",
            field="preset",
        )
