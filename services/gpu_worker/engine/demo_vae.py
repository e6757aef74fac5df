"""The demo model's video autoencoder: Wan's own class, with weights that are worked out.

Its decoder shows a soft field of colours that moves; its encoder finds the latents that the decoder
turns back into a picture. Both are linear, so that the one can undo the other. Wan's layers are not: each
normalises its input and puts it through SiLU. Therefore colours travel in pairs, x and -x, for silu(x) -
silu(-x) is x; and beside them goes a large constant, which makes up nearly all of what a norm divides by.
Where an edge or the beginning of the video takes away from a blur, it takes from the constant as well,
and the next norm makes up for it.
"""

import itertools
import math

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanAttentionBlock,
    WanResample,
    WanResidualBlock,
    WanRMS_norm,
)
from torch import Tensor, nn

_LATENTS_MEAN, _LATENTS_STD = (0.25, -0.25), (1.0, 2.0)  # of every other channel

_COLORS = 3
_CONSTANT = 2 * _COLORS  # its channel, after the pairs
_CARRIED = _CONSTANT + 1
_LARGE = 64.0

_BLUR = (0.25, 0.5, 0.25)
_BLEND = ((0.25, 0.75, 0.0), (0.0, 0.75, 0.25))  # of a pair of pixels: the first, the second
# How much of the last three frames there is in a blurred one. Latents change slowly, and what is shown
# of them blends: Wan's decoder itself knows nothing of the first frame where it makes two of the next.
_PRESENT = (0.0, 0.0, 1.0)
_SLOWLY = (0.0, 0.4, 0.6)
_LATELY = (1 / 3, 1 / 3, 1 / 3)

_COLORFULNESS = 0.35  # of the whole picture, which the prompt decides upon
_CONTRAST = 2.5  # of what is in it, which is noise and would be grey after so much blurring
# How far each residual block of the decoder goes towards its blur: nearly all the way.
_SOFTNESS = 0.95
# How far those of the encoder go the other way, to undo it: found by trying, for the least error of a
# picture that is encoded and shown again.
_SHARPNESS = 3.0


def make_vae(latent_channels: int, generator: torch.Generator) -> AutoencoderKLWan:
    """Which latents stand for which colours is drawn from the generator."""
    vae = AutoencoderKLWan(
        # As few and narrow layers as will do: encoding a video takes a CPU longer than all the rest.
        base_dim=8,
        decoder_base_dim=16,
        z_dim=latent_channels,
        dim_mult=[1, 1, 1],
        num_res_blocks=0,
        temperal_downsample=[True, True],
        latents_mean=list(_LATENTS_MEAN) * (latent_channels // 2),
        latents_std=list(_LATENTS_STD) * (latent_channels // 2),
        # 2x2 pixels a position: an 81-frame decode at full resolution takes a CPU half a minute.
        patch_size=2,
        in_channels=12,
        out_channels=12,
        scale_factor_temporal=4,
        scale_factor_spatial=8,
    )
    for name, parameter in vae.named_parameters():
        if not name.endswith("gamma"):
            parameter.zero_()
    spread = torch.tensor(_LATENTS_STD).repeat(latent_channels // 2)
    axes = torch.linalg.qr(torch.randn(latent_channels, _COLORS, generator=generator)).Q
    _fill_decoder(vae, (_COLORFULNESS * axes / spread[:, None]).T)
    _fill_encoder(vae, axes * spread[:, None] / _COLORFULNESS)
    return vae.eval()


def _fill_decoder(vae: AutoencoderKLWan, colors: Tensor) -> None:
    """``colors``: (3, latent channels), what a latent adds to red, green and blue."""
    decoder, blender = vae.decoder, _Blender()
    _begin(vae.post_quant_conv, colors)
    decoder.conv_in.weight[:_CARRIED, :_CARRIED] = _same() * _blur(_SLOWLY)
    before, after = decoder.mid_block.resnets
    blender.block(before, _SOFTNESS, _PRESENT)
    blender.attention(decoder.mid_block.attentions[0], 1 - _CONTRAST)
    blender.block(after, _SOFTNESS, _PRESENT)
    for stage, time in zip(decoder.up_blocks, (_PRESENT, _LATELY, _LATELY), strict=True):
        blender.block(stage.resnets[0], _SOFTNESS, time)
        for sampler in stage.upsamplers or ():
            _enlarge(sampler)
    _gain(decoder.norm_out)
    _paint(decoder.conv_out)


def _fill_encoder(vae: AutoencoderKLWan, latents: Tensor) -> None:
    """``latents``: (latent channels, 3), what a colour adds to each latent."""
    encoder, blender = vae.encoder, _Blender()
    _begin(encoder.conv_in, torch.eye(_COLORS).repeat_interleave(4, dim=1) / 4)
    for sampler in encoder.down_blocks:
        _shrink(sampler)
    before, after = encoder.mid_block.resnets
    blender.block(before, -_SHARPNESS, _PRESENT)
    blender.attention(encoder.mid_block.attentions[0], 1 - 1 / _CONTRAST)
    blender.block(after, -_SHARPNESS, _PRESENT)
    _gain(encoder.norm_out)
    pairs = torch.stack([latents, -latents], dim=2).flatten(1)
    encoder.conv_out.weight[: len(latents), : 2 * _COLORS, -1, 1, 1] = pairs
    vae.quant_conv.weight[:, :, 0, 0, 0] = torch.eye(2 * len(latents))


class _Blender:
    """Fills the layers along a path that take what passes on its way to what they see around it."""

    def __init__(self) -> None:
        self._carried = 1.0  # what a colour and the constant have become a multiple of

    def block(self, block: WanResidualBlock, share: float, time: tuple[float, ...]) -> None:
        """Towards its blur by so much of the way; away from it, if the share is negative."""
        if isinstance(block.conv_shortcut, nn.Conv3d):
            block.conv_shortcut.weight[:_CARRIED, :_CARRIED] = _same()
        _gain(block.norm1)
        _gain(block.norm2)
        added = self._add(share)
        block.conv1.weight[:_CARRIED, :_CARRIED] = _rejoin() * _blur(time)
        block.conv2.weight[:_CARRIED, :_CARRIED, -1, 1, 1] = added * _rejoin()[:, :, 0, 0, 0]

    def attention(self, attention: WanAttentionBlock, share: float) -> None:
        """Towards the mean of the whole picture: with queries of zero, all is attended to alike."""
        _gain(attention.norm)
        value = attention.to_qkv.weight.view(3, attention.dim, attention.dim)[2]
        value[:_CARRIED, :_CARRIED] = torch.eye(_CARRIED)
        added = self._add(share)
        attention.proj.weight[:_CARRIED, :_CARRIED, 0, 0] = added * torch.eye(_CARRIED)

    def _add(self, share: float) -> float:
        """How much of its input, normalised, a layer adds to a multiple of that."""
        added = self._carried * share / (1 - share)
        self._carried += added
        return added


def _gain(norm: WanRMS_norm) -> None:
    """With the constant as large again as it was at the beginning, colours are what they were."""
    norm.gamma.fill_(_LARGE / math.sqrt(norm.gamma.numel()))


def _begin(conv: nn.Conv3d, colors: Tensor) -> None:
    """``colors``: (3, channels), what each channel that comes in adds to red, green and blue."""
    middle = conv.kernel_size[-1] // 2
    conv.weight[0 : 2 * _COLORS : 2, :, -1, middle, middle] = colors
    conv.weight[1 : 2 * _COLORS : 2, :, -1, middle, middle] = -colors
    assert conv.bias is not None  # noqa: S101 - all of Wan's have one
    conv.bias[_CONSTANT] = _LARGE


def _same() -> Tensor:
    """What passes, as it was: (carried, carried, 1, 1, 1)."""
    return torch.eye(_CARRIED)[:, :, None, None, None]


def _rejoin() -> Tensor:
    """The same after SiLU, where the difference of a pair is the colour."""
    mixing = torch.eye(_CARRIED)
    for plus in range(0, 2 * _COLORS, 2):
        mixing[plus, plus + 1] = mixing[plus + 1, plus] = -1
    return mixing[:, :, None, None, None]


def _blur(time: tuple[float, ...]) -> Tensor:
    """One kernel: (3, 3, 3)."""
    return torch.tensor(time)[:, None, None] * torch.outer(torch.tensor(_BLUR), torch.tensor(_BLUR))


def _enlarge(sampler: WanResample) -> None:
    """Twice as many frames, each first one half way from the last; twice the size, smoothly."""
    same = torch.eye(_CARRIED)
    first, second = sampler.time_conv.weight.view(2, sampler.dim, sampler.dim, 3)
    first[:_CARRIED, :_CARRIED, 1:] = same[:, :, None] / 2
    second[:_CARRIED, :_CARRIED, 2] = same
    blur = torch.outer(torch.tensor(_BLUR), torch.tensor(_BLUR))
    sampler.resample[1].weight[:_CARRIED, :_CARRIED] = same[:, :, None, None] * blur


def _shrink(sampler: WanResample) -> None:
    """Half the size, two by two pixels to one; of the frames, every second one."""
    same = torch.eye(_CARRIED)
    sampler.resample[1].weight[:_CARRIED, :_CARRIED, :2, :2] = same[:, :, None, None] / 4
    sampler.time_conv.weight[:_CARRIED, :_CARRIED, 2, 0, 0] = same


def _paint(conv_out: nn.Conv3d) -> None:
    """The four pixels of a position blend into its neighbours, instead of all being alike."""
    # Channels are ordered colour, column, row; of the three frames seen the last is the present.
    by_pixel = conv_out.weight[:, :, -1].view(_COLORS, 2, 2, conv_out.in_channels, 3, 3)
    for color, column, row in itertools.product(range(_COLORS), range(2), range(2)):
        kernel = torch.outer(torch.tensor(_BLEND[row]), torch.tensor(_BLEND[column]))
        by_pixel[color, column, row, 2 * color] = kernel
        by_pixel[color, column, row, 2 * color + 1] = -kernel
