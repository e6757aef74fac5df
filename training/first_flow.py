"""Weights that the transformer begins with: what comes in goes out, and a prompt's words are heard.

From random weights most of the training goes into learning to pass noise through: a patch has nearly
as many numbers as a token is wide.
"""

import itertools
import math

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from training.reading import is_text_attention

_SEES_TEXT = 2.5  # sharpens the first attention to text, else padding drowns it
_QUIET = 0.3  # how much less than usual a layer says at first
_GATE = 0.5
_CONSTANT = 2.0  # how much larger than a patch of noise
_GATES = (2, 5)  # of shift, scale and gate, for attention and feed-forward
# Where each head looks first: the next and last frame, row and column.
_NEIGHBOURS = ((0, 0, -1), (0, 0, 1), (0, -1, 0), (0, 1, 0), (-1, 0, 0), (1, 0, 0))
_QUICK = 2  # of an axis' rotary frequencies: the slower ones hardly turn from token to token
_SHARP = 5.0  # how much a neighbour outweighs others, before the softmax
_SAYS_LITTLE = 0.5
_THETA = 10_000.0  # of diffusers' rotary positions


@torch.no_grad()
def begin_with_noise(transformer: WanTransformer3DModel, generator: torch.Generator) -> None:
    """At once it predicts that all it sees is noise, which is nearly so for most noise levels."""
    width = transformer.proj_out.in_features
    numbers = transformer.proj_out.out_features
    patch = transformer.config.patch_size
    # Norms take away the mean, and how large a token is: but not beside a constant much larger.
    random = torch.randn(width, 1 + numbers, generator=generator)
    axes = torch.linalg.qr(torch.cat([torch.ones(width, 1), random], dim=1))[0]
    constant, basis = axes[:, 1], axes[:, 2:]
    size = _CONSTANT * math.sqrt(numbers)
    # What comes in is ordered channel, place; what goes out place, channel.
    kernel = basis.view(width, math.prod(patch), -1).transpose(1, 2)
    embedding = transformer.patch_embedding
    embedding.weight.copy_(kernel.reshape(embedding.weight.shape))
    embedding.bias.copy_(constant * size)
    transformer.proj_out.weight.copy_(basis.T * math.sqrt((numbers + size**2) / width))
    transformer.proj_out.bias.zero_()
    transformer.scale_shift_table.zero_()
    transformer.condition_embedder.time_embedder.linear_2.weight.mul_(0.1)
    transformer.condition_embedder.time_embedder.linear_2.bias.zero_()
    _be_quiet(transformer)
    _listen_to_text(transformer)


@torch.no_grad()
def begin_with_neighbours(transformer: WanTransformer3DModel) -> None:
    """Each head begins by looking at one neighbour, wherever a token is."""
    width = transformer.config.attention_head_dim
    heads = transformer.config.num_attention_heads
    key = _looking((0, 0, 0), width).repeat(heads)
    pairs = _QUICK * 3
    neighbours = itertools.cycle(_NEIGHBOURS)
    for block in transformer.blocks:
        attention = block.attn1
        query = torch.cat([_looking(next(neighbours), width) for _ in range(heads)])
        for layer, bias in ((attention.to_q, query), (attention.to_k, key)):
            layer.weight.mul_(_SAYS_LITTLE)
            layer.bias.copy_(bias)
        for norm in (attention.norm_q, attention.norm_k):
            norm.weight.fill_(math.sqrt(_SHARP * math.sqrt(width) * pairs / width))


def _looking(away: tuple[int, int, int], width: int) -> Tensor:
    """Numbers of a head that rotary positions turn into those of a token so far away."""
    side = 2 * (width // 6)  # numbers that know the row, and the column; as diffusers has it
    numbers = []
    for distance, length in zip(away, (width - 2 * side, side, side), strict=True):
        pair = torch.arange(length // 2)
        turns = distance * _THETA ** (-2 * pair / length)
        looks = torch.stack([turns.cos(), turns.sin()], dim=1) * (pair < _QUICK)[:, None]
        numbers.append(looks.flatten())
    return torch.cat(numbers)


def _be_quiet(transformer: WanTransformer3DModel) -> None:
    time = transformer.condition_embedder.time_proj
    weight, bias = time.weight.unflatten(0, (6, -1)), time.bias.unflatten(0, (6, -1))
    for gate in _GATES:
        weight[gate] = 0
        bias[gate] = 0
    for block in transformer.blocks:
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, list(_GATES)] = _GATE
        for layer in (block.attn1.to_out[0], block.ffn.net[2]):
            layer.weight.mul_(_QUIET)
            _silence(layer.bias)


def _listen_to_text(transformer: WanTransformer3DModel) -> None:
    """Padding starts as nothing, and the few words of a prompt outweigh it."""
    embedder = transformer.condition_embedder.text_embedder
    layers = [embedder.linear_1, embedder.linear_2]
    for module in transformer.modules():
        if is_text_attention(module):
            layers += [module.to_k, module.to_v]
            module.norm_k.weight.fill_(_SEES_TEXT)
    for layer in layers:
        _silence(layer.bias)


def _silence(bias: Tensor) -> None:
    bias.zero_()
