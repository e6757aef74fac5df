"""Wan's autoencoder, trained a slice of time after another.

diffusers' own causal convolutions are slow on a CPU, and of a single frame they see only their last
slice: then a 2-D convolution of that slice gives the same, in a fraction of the time. The layers here
hold the parameters of diffusers' own, so what is trained is saved by ``save_pretrained``.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanCausalConv3d,
    WanResample,
)
from torch import Tensor, nn


class SlicedConv(nn.Module):
    """A causal convolution over a whole video (batch, channels, frames, height, width)."""

    def __init__(self, conv: WanCausalConv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.sees_time = True
        self._padding = (conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)

    def forward(self, video: Tensor, *_: object) -> Tensor:
        batch, frames, height, width = video.shape[0], *video.shape[2:]
        pictures = video.transpose(1, 2).flatten(0, 1)
        present = self._slice(pictures, -1, self.bias)
        result = present.view(batch, frames, -1, height, width)
        slices = self.weight.shape[2] if self.sees_time else 1
        for age in range(1, min(slices, frames)):
            earlier = video[:, :, :-age].transpose(1, 2).flatten(0, 1)
            seen = self._slice(earlier, -1 - age, None).view(batch, frames - age, -1, height, width)
            result = result + F.pad(seen, (0, 0, 0, 0, 0, 0, age, 0))
        return result.transpose(1, 2)

    def _slice(self, pictures: Tensor, index: int, bias: Tensor | None) -> Tensor:
        return F.conv2d(pictures, self.weight[:, :, index], bias, padding=self._padding)


class SlicedUpsample(nn.Module):
    """A whole video at twice the frames, but for the first; diffusers does it piece by piece."""

    def __init__(self, resample: WanResample) -> None:
        super().__init__()
        self.resample = resample.resample
        self.time_conv = SlicedConv(resample.time_conv)

    def forward(self, video: Tensor, *_: object) -> Tensor:
        if video.shape[2] > 1:
            later = video[:, :, 1:]
            pairs = self.time_conv(later).unflatten(1, (2, -1))  # (batch, 2, channels, frames, …)
            doubled = pairs.permute(0, 2, 3, 1, 4, 5).flatten(2, 3)
            video = torch.cat([video[:, :, :1], doubled], dim=2)
        batch, frames = video.shape[0], video.shape[2]
        pictures = self.resample(video.transpose(1, 2).flatten(0, 1))
        return pictures.unflatten(0, (batch, frames)).transpose(1, 2)


def slice_by_slice(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """The same autoencoder, for training; encode single frames with it, decode whole videos."""
    for module in list(vae.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, WanCausalConv3d):
                setattr(module, name, SlicedConv(child))
            elif isinstance(child, WanResample) and child.mode == "upsample3d":
                setattr(module, name, SlicedUpsample(child))
            elif isinstance(child, WanAttentionBlock):
                child.forward = nn.Identity()  # see ``begin_with_colours``
                child.requires_grad_(False)
    return vae


@torch.no_grad()
def forget_time(vae: AutoencoderKLWan) -> None:
    """Make each latent frame that of the last frame it stands for, and decode to four copies."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.weight[:, :, :-1] = 0
        if isinstance(module, WanResample) and hasattr(module, "time_conv"):
            conv = module.time_conv
            conv.weight.zero_()
            conv.bias.zero_()
            channels = conv.in_channels
            for first in range(0, conv.out_channels, channels):
                conv.weight[first : first + channels, :, -1, 0, 0] = torch.eye(channels)


def encode_frames(vae: AutoencoderKLWan, pictures: Tensor) -> Tensor:
    """(pictures, channels, height, width), the means of latents, of pictures of -1 to 1."""
    moments = vae.quant_conv(vae.encoder(_patches(pictures, vae).unsqueeze(2)))
    return moments.squeeze(2).chunk(2, dim=1)[0]


def decode_video(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """(batch, 3, frames, height, width), unclamped, from (batch, channels, latent frames, …)."""
    patches = vae.decoder(vae.post_quant_conv(latents))
    side = vae.config.patch_size
    batch, _, frames, height, width = patches.shape
    # A patch's channels are ordered colour, column, row.
    grid = patches.view(batch, 3, side, side, frames, height, width)
    grid = grid.permute(0, 1, 4, 5, 3, 6, 2)
    return grid.reshape(batch, 3, frames, height * side, width * side)


def _patches(pictures: Tensor, vae: AutoencoderKLWan) -> Tensor:
    side = vae.config.patch_size
    pictures_count, _, height, width = pictures.shape
    grid = pictures.view(pictures_count, 3, height // side, side, width // side, side)
    return grid.permute(0, 1, 5, 3, 2, 4).reshape(
        pictures_count, 3 * side * side, height // side, width // side
    )
