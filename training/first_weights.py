"""Weights that the autoencoder begins with: it passes on the mean colour of each block of pixels.

From random weights most of the training goes into finding out that colours are to be kept: norms
keep directions only, and an object covers few pixels.
"""

import math

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
)
from torch import Tensor, nn

from training.slices import forget_time

_CONSTANT = (
    3.0  # beside it a colour changes the direction of a pixel's channels, so a norm keeps it
)
_COLOURS = slice(0, 3)
_NEGATIVES = slice(4, 7)  # a SiLU of a number less that of its negative is the number
_ONE = 3
_CARRIED = 7
_STRETCH = 2.0  # of latents, so that they are around 1
_MENDED = 1.6  # what SiLUs and other channels take away, about


@torch.no_grad()
def begin_with_colours(vae: AutoencoderKLWan, *, spread: float) -> None:
    """All latents are as certain as ``spread`` says, and each stands for one frame alone."""
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            module.conv2.weight.zero_()  # begins by adding nothing
            module.conv2.bias.zero_()
            if not isinstance(module.conv_shortcut, nn.Identity):
                _carry(module.conv_shortcut.weight[:, :, 0], module.conv_shortcut.bias)
        elif isinstance(module, WanAttentionBlock):
            # What is learned on small crops then holds for frames of any size.
            module.proj.weight.zero_()
            module.proj.bias.zero_()
        elif isinstance(module, WanResample):
            conv = module.resample[1]
            _carry(conv.weight, conv.bias, halve=module.mode.startswith("down"))
    forget_time(vae)
    _begin_encoder(vae, spread)
    _begin_decoder(vae)


def _begin_encoder(vae: AutoencoderKLWan, spread: float) -> None:
    encoder, pixels = vae.encoder, vae.config.patch_size**2
    _blank(encoder.conv_in.weight, encoder.conv_in.bias)
    for colour in range(3):
        own = slice(colour * pixels, (colour + 1) * pixels)
        encoder.conv_in.weight[colour, own, -1, 1, 1] = 1 / pixels
        encoder.conv_in.weight[_NEGATIVES.start + colour, own, -1, 1, 1] = -1 / pixels
    encoder.conv_in.bias[_ONE] = _CONSTANT
    _join(encoder.conv_out.weight, encoder.conv_out.bias, width=encoder.conv_out.in_channels)
    encoder.conv_out.weight[:3] *= _STRETCH
    channels = vae.config.z_dim
    vae.quant_conv.weight.zero_()
    vae.quant_conv.weight[:channels, :channels, 0, 0, 0] = torch.eye(channels)
    vae.quant_conv.bias.zero_()
    vae.quant_conv.bias[channels:] = 2 * math.log(spread)


def _begin_decoder(vae: AutoencoderKLWan) -> None:
    decoder, pixels = vae.decoder, vae.config.patch_size**2
    vae.post_quant_conv.weight[:, :, 0, 0, 0] = torch.eye(vae.config.z_dim)
    vae.post_quant_conv.bias.zero_()
    _blank(decoder.conv_in.weight, decoder.conv_in.bias)
    for colour in range(3):
        decoder.conv_in.weight[colour, colour, -1, 1, 1] = _MENDED / _STRETCH
        decoder.conv_in.weight[_NEGATIVES.start + colour, colour, -1, 1, 1] = -_MENDED / _STRETCH
    decoder.conv_in.bias[_ONE] = _CONSTANT
    _join(
        decoder.conv_out.weight,
        decoder.conv_out.bias,
        width=decoder.conv_out.in_channels,
        copies=pixels,
    )


def _blank(weight: Tensor, bias: Tensor) -> None:
    weight[:_CARRIED] = 0
    bias[:_CARRIED] = 0


def _carry(weight: Tensor, bias: Tensor, *, halve: bool = False) -> None:
    """The first channels pass through a convolution (out, in, height, width)."""
    _blank(weight, bias)
    same = torch.eye(_CARRIED)[..., None, None]
    if halve:
        weight[:_CARRIED, :_CARRIED, :2, :2] = same / 4
    else:
        middle = weight.shape[-1] // 2
        weight[:_CARRIED, :_CARRIED, middle : middle + 1, middle : middle + 1] = same


def _join(weight: Tensor, bias: Tensor, *, width: int, copies: int = 1) -> None:
    """After norm and SiLU: the colours again, about as large as they were."""
    size = math.sqrt(_CONSTANT**2 + 1.5) / math.sqrt(width)
    for colour in range(3):
        rows = slice(colour * copies, (colour + 1) * copies)
        weight[rows] *= 0.3
        bias[rows] = 0
        weight[rows, :_CARRIED] = 0
        weight[rows, colour, -1, 1, 1] = size
        weight[rows, _NEGATIVES.start + colour, -1, 1, 1] = -size
