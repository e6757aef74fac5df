"""Latents to frames: Wan's video decoder, a few latent frames at a time, straight to bytes."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from services.gpu_worker.backends.backend import Frames
from services.gpu_worker.engine.causal import (
    ActivatedConv,
    Attention,
    CausalConv,
    Past,
    Resample,
    ResidualBlock,
)

_COLORS = 3

# Two latent frames a pass spare small videos half of the calls; of large ones a single frame is
# more than the caches hold, and more of it would only be more memory.
_SMALL_LATENT_PIXELS = 2048


class Decoder:
    """The video is never whole in floats: each piece is bytes before the next one is begun."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        config, decoder = vae.config, vae.decoder
        self._patch: int = config.patch_size or 1
        self._scale: int = vae.spatial_compression_ratio
        self._mean = torch.tensor(config.latents_mean, dtype=vae.dtype, device=vae.device)
        self._std = torch.tensor(config.latents_std, dtype=vae.dtype, device=vae.device)
        self._conv_in = (CausalConv(vae.post_quant_conv), CausalConv(decoder.conv_in))
        middle = decoder.mid_block
        self._blocks: list[ResidualBlock | Attention | Resample] = [
            ResidualBlock(middle.resnets[0])
        ]
        for attention, block in zip(middle.attentions, middle.resnets[1:], strict=True):
            self._blocks += [Attention(attention), ResidualBlock(block)]
        for stage in decoder.up_blocks:
            self._blocks += [ResidualBlock(block) for block in stage.resnets]
            self._blocks += [Resample(resample) for resample in stage.upsamplers or ()]
        self._conv_out = ActivatedConv(decoder.norm_out, decoder.conv_out)

    def decode(self, latents: Tensor, report: Callable[[float], None]) -> Frames:
        """(frames, height, width, 3) from (1, channels, latent frames, height, width).

        ``report`` is told the part that is done, up to 1; what it raises stops the decoding.
        """
        pieces = []
        done = 0
        past: Past = {}
        for piece in self._pieces(latents):
            pieces.append(self._decode(piece, past, first=done == 0).cpu().numpy())
            done += len(piece)
            report(done / latents.shape[2])
        return np.concatenate(pieces)

    def _pieces(self, latents: Tensor) -> Iterator[Tensor]:
        """The first frame by itself: it becomes one frame, each later one several."""
        pictures = latents[0].to(self._mean.dtype).permute(1, 2, 3, 0) * self._std + self._mean
        _, height, width, _ = pictures.shape
        at_a_time = 2 if height * width <= _SMALL_LATENT_PIXELS else 1
        yield pictures[:1]
        for start in range(1, len(pictures), at_a_time):
            yield pictures[start : start + at_a_time]

    def _decode(self, pictures: Tensor, past: Past, *, first: bool) -> Tensor:
        for conv in self._conv_in:
            pictures = conv.run(pictures, past)
        for block in self._blocks:
            if isinstance(block, Resample):
                pictures = block(pictures, past, first=first)
            else:
                pictures = block(pictures, past)
        return self._to_bytes(self._conv_out(pictures, past))

    def _to_bytes(self, pictures: Tensor) -> Tensor:
        """(frames, height, width, 3), made on the device: a quarter of what floats weigh."""
        colors = pictures.clamp_(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
        frames, height, width, _ = colors.shape
        patch = self._patch
        # A patch's channels are ordered colour, column, row.
        patches = colors.view(frames, height, width, _COLORS, patch, patch)
        return patches.permute(0, 1, 5, 2, 4, 3).reshape(
            frames, height * patch, width * patch, _COLORS
        )
