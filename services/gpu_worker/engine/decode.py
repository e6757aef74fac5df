"""Latents to frames: Wan's video decoder, a few latent frames at a time, straight to bytes."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from services.gpu_worker.backends.backend import Frames
from services.gpu_worker.engine.causal import (
    Attention,
    CausalConv,
    Norm,
    Past,
    PixelLinear,
    Resample,
    ResidualBlock,
    Upsample,
    activate,
)
from shared.errors import ModelUnavailable

_COLORS = 3
_CUBE = (3, 3, 3)

# Two latent frames a pass spare small videos half of the calls; of large ones a single frame is
# more than the caches hold, and more of it would only be more memory.
_SMALL_LATENT_PIXELS = 2048

# Where diffusers' names differ from ours.
_RENAMED = (
    ("decoder.", ""),
    (".upsamplers.0.resample.1.", ".upsampler.upsample."),
    (".upsamplers.0.", ".upsampler."),
)


@dataclass(frozen=True)
class DecoderConfig:
    widths: tuple[int, ...]  # channels of the middle, then after each stage
    doubles_frames: tuple[bool, ...]  # a stage that enlarges: whether in time, too
    blocks: int  # residual blocks a stage
    latent_channels: int
    channels_out: int
    patch: int  # pixels a side that a position of the last layer holds
    latents_mean: tuple[float, ...]
    latents_std: tuple[float, ...]

    @property
    def pixel_stride(self) -> int:
        """Pixels a side that a latent becomes."""
        return self.patch << len(self.doubles_frames)

    @property
    def frame_stride(self) -> int:
        """Frames that a latent frame becomes, but for the first, which becomes one."""
        return 1 << sum(self.doubles_frames)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From the ``config.json`` of an ``AutoencoderKLWan``. Raises ``ModelUnavailable``."""
        if config.get("is_residual") or config.get("attn_scales"):
            raise ModelUnavailable("The model's video decoder is not that of Wan 2.1.")
        base = config.get("decoder_base_dim") or config["base_dim"]
        multiples = config["dim_mult"]
        patch = config.get("patch_size") or 1
        return cls(
            widths=tuple(base * multiple for multiple in (multiples[-1], *reversed(multiples))),
            doubles_frames=tuple(reversed(config["temperal_downsample"])),
            blocks=config["num_res_blocks"] + 1,
            latent_channels=config["z_dim"],
            channels_out=_COLORS * patch * patch,
            patch=patch,
            latents_mean=tuple(config["latents_mean"]),
            latents_std=tuple(config["latents_std"]),
        )


class Decoder(nn.Module):
    """The video is never whole in floats: each piece is bytes before the next one is begun."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        widths, channels = config.widths, config.latent_channels
        self.post_quant_conv = CausalConv(channels, channels, (1, 1, 1))
        self.conv_in = CausalConv(channels, widths[0], _CUBE)
        self.mid_block = _Middle(widths[0])
        self.up_blocks = nn.ModuleList(_stages(config))
        self.norm_out = Norm(widths[-1])
        self.conv_out = CausalConv(widths[-1], config.channels_out, _CUBE)
        # What decodes a piece after the first: this module, or a compiled package.
        self.run_piece: Callable[[Tensor, Past], Tensor] = self.later_piece

    def decode(self, latents: Tensor, report: Callable[[float], None]) -> Frames:
        """(frames, height, width, 3) from (1, channels, latent frames, height, width).

        ``report`` is told the part that is done, up to 1; what it raises stops the decoding.
        """
        pieces = []
        done = 0
        past: Past = {}
        for piece in self._pieces(latents):
            run = self.run_piece if done else self.first_piece
            pieces.append(run(piece, past).cpu().numpy())
            done += len(piece)
            report(done / latents.shape[2])
        return np.concatenate(pieces)

    def first_piece(self, pictures: Tensor, past: Past) -> Tensor:
        """The first latent frame becomes one frame."""
        return self._decode(pictures, past, first=True)

    def later_piece(self, pictures: Tensor, past: Past) -> Tensor:
        """(latent frames, height, width, channels) to (frames, height, width, 3) in bytes."""
        return self._decode(pictures, past, first=False)

    def _pieces(self, latents: Tensor) -> Iterator[Tensor]:
        config, weight = self.config, self.conv_in.weight
        mean, std = weight.new_tensor([config.latents_mean, config.latents_std])
        pictures = latents[0].to(weight.dtype).permute(1, 2, 3, 0) * std + mean
        yield pictures[:1]
        at_a_time = latent_frames_at_a_time(pictures.shape[1] * pictures.shape[2])
        for start in range(1, len(pictures), at_a_time):
            yield pictures[start : start + at_a_time]

    def _decode(self, pictures: Tensor, past: Past, *, first: bool) -> Tensor:
        for conv in (self.post_quant_conv, self.conv_in):
            pictures = conv.run(pictures, past)
        pictures = self.mid_block(pictures, past)
        for stage in self.up_blocks:
            pictures = stage(pictures, past, first=first)
        return self._to_bytes(activate(self.norm_out, self.conv_out, pictures, past))

    def _to_bytes(self, pictures: Tensor) -> Tensor:
        """(frames, height, width, 3), made on the device: a quarter of what floats weigh."""
        colors = pictures.clamp_(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)
        frames, height, width, _ = colors.shape
        patch = self.config.patch
        # A patch's channels are ordered colour, column, row.
        patches = colors.view(frames, height, width, _COLORS, patch, patch)
        return patches.permute(0, 1, 5, 2, 4, 3).reshape(
            frames, height * patch, width * patch, _COLORS
        )


class _Middle(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(width, width) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(width)])

    def forward(self, pictures: Tensor, past: Past) -> Tensor:
        before, after = self.resnets
        pictures = before(pictures, past)
        pictures = self.attentions[0](pictures, past)
        result: Tensor = after(pictures, past)
        return result


class _Stage(nn.Module):
    def __init__(
        self, width_in: int, width: int, *, blocks: int, upsampler: Resample | None
    ) -> None:
        super().__init__()
        widths = [width_in] + [width] * blocks
        self.resnets = nn.ModuleList(ResidualBlock(*pair) for pair in itertools.pairwise(widths))
        self.upsampler = upsampler

    def forward(self, pictures: Tensor, past: Past, *, first: bool) -> Tensor:
        for block in self.resnets:
            pictures = block(pictures, past)
        if self.upsampler is not None:
            pictures = self.upsampler(pictures, past, first=first)
        return pictures


def latent_frames_at_a_time(latent_pixels: int) -> int:
    """How many latent frames of this many pixels are decoded in one pass."""
    return 2 if latent_pixels <= _SMALL_LATENT_PIXELS else 1


def _stages(config: DecoderConfig) -> Iterator[_Stage]:
    """Each stage but the last one doubles the size, and halves the width on the way."""
    width_in = config.widths[0]
    for index, width in enumerate(config.widths[1:]):
        upsampler = None
        if index < len(config.doubles_frames):
            doubles_frames = config.doubles_frames[index]
            upsampler = Resample(width, width // 2, doubles_frames=doubles_frames)
        yield _Stage(width_in, width, blocks=config.blocks, upsampler=upsampler)
        width_in = width // 2


def prepare(decoder: Decoder, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an ``AutoencoderKLWan`` as ``Decoder`` has them; the encoder's are left out."""
    renamed = {}
    for name, weight in weights.items():
        new = name
        for old, ours in _RENAMED:
            new = new.replace(old, ours)
        renamed[new] = weight
    prepared: dict[str, Tensor] = {}
    for path, layer in decoder.named_modules():
        if isinstance(layer, CausalConv | Norm | PixelLinear | Upsample):
            own = {
                name.removeprefix(f"{path}."): weight
                for name, weight in renamed.items()
                if name.startswith(f"{path}.")
            }
            for name, form in layer.prepare(own).items():
                # A copy, for one stride a shape: of a 1x1 kernel, many would do, and which it is
                # chooses the algorithm.
                copy = form.clone(memory_format=torch.contiguous_format)
                prepared[f"{path}.{name}"] = copy
    return prepared
