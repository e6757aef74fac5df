"""UMT5's encoder, which reads the prompts: the weights and mathematics of transformers' own.

Only a prompt's own tokens come in, so there is nothing to mask. The names of the modules are those of
the weight files.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

from shared.errors import ModelUnavailable

# Those that hold nearly all of the weights.
LARGE_LAYERS = re.compile(r"(^shared|\.(q|k|v|o|wi_0|wi_1|wo))$")

_TIED = "encoder.embed_tokens.weight"  # some files hold the embedding a second time


@dataclass(frozen=True)
class UMT5Config:
    """The sizes of an encoder, named as in its config.json."""

    vocab_size: int
    d_model: int
    d_kv: int  # a head
    d_ff: int
    num_layers: int
    num_heads: int
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From the content of a config.json. Raises ``ModelUnavailable`` for another model's."""
        if config.get("feed_forward_proj", "gated-gelu") != "gated-gelu":
            raise ModelUnavailable("The model's text encoder has another feed-forward than UMT5's.")
        try:
            return cls(**{name: config[name] for name in cls.__match_args__ if name in config})
        except TypeError as error:
            raise ModelUnavailable("The model's text_encoder/config.json is incomplete.") from error


class UMT5Encoder(nn.Module):
    """Made on the meta device it takes no memory until its weights are assigned."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = _Stack(config)
        self.register_load_state_dict_pre_hook(_untie)  # type: ignore[no-untyped-call]

    def forward(self, tokens: Tensor) -> Tensor:
        """(1, tokens, width) from (1, tokens) int64."""
        states: Tensor = self.encoder(self.shared(tokens))
        return states


class _Stack(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self._buckets = config.relative_attention_num_buckets
        self._max_distance = config.relative_attention_max_distance
        self.block = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.final_layer_norm = _Norm(config)

    def forward(self, states: Tensor) -> Tensor:
        buckets = _buckets_of_distances(states.shape[1], self._buckets, self._max_distance)
        buckets = buckets.to(states.device)
        for block in self.block:
            states = block(states, buckets)
        normed: Tensor = self.final_layer_norm(states)
        return normed


class _Block(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.layer = nn.ModuleList([_SelfAttentionLayer(config), _FeedForwardLayer(config)])

    def forward(self, states: Tensor, buckets: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        result: Tensor = feed_forward(attention(states, buckets))
        return result


class _SelfAttentionLayer(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.SelfAttention = _SelfAttention(config)
        self.layer_norm = _Norm(config)

    def forward(self, states: Tensor, buckets: Tensor) -> Tensor:
        change: Tensor = self.SelfAttention(self.layer_norm(states), buckets)
        return states + change


class _SelfAttention(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        inner = config.num_heads * config.d_kv
        self._heads = config.num_heads
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.o = nn.Linear(inner, config.d_model, bias=False)
        self.relative_attention_bias = nn.Embedding(
            config.relative_attention_num_buckets, config.num_heads
        )

    def forward(self, states: Tensor, buckets: Tensor) -> Tensor:
        query, key, value = (
            layer(states).unflatten(-1, (self._heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        bias = self.relative_attention_bias(buckets).permute(2, 0, 1).unsqueeze(0)
        # Trained without the usual division by the root of a head's width.
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
        change: Tensor = self.o(found.transpose(1, 2).flatten(2))
        return change


class _FeedForwardLayer(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.DenseReluDense = _GatedFeedForward(config)
        self.layer_norm = _Norm(config)

    def forward(self, states: Tensor) -> Tensor:
        change: Tensor = self.DenseReluDense(self.layer_norm(states))
        return states + change


class _GatedFeedForward(nn.Module):
    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = nn.Linear(config.d_model, config.d_ff, bias=False)
        self.wo = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        gated = F.gelu(self.wi_0(states), approximate="tanh") * self.wi_1(states)
        # In float16 this product overflows: there its weights are kept in float32.
        if self.wo.weight.dtype == torch.float32:
            gated = gated.float()
        change: Tensor = self.wo(gated)
        return change


class _Norm(nn.Module):
    """Root mean square, without mean and bias, added up in float32."""

    def __init__(self, config: UMT5Config) -> None:
        super().__init__()
        self._eps = config.layer_norm_epsilon
        self.weight = nn.Parameter(torch.ones(config.d_model))

    def forward(self, states: Tensor) -> Tensor:
        square = states.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (states * torch.rsqrt(square + self._eps)).to(self.weight.dtype)


def _buckets_of_distances(tokens: int, buckets: int, max_distance: int) -> Tensor:
    """(tokens, tokens) int64: near distances each have a bucket, far ones share, by logarithm."""
    places = torch.arange(tokens, device="cpu")  # also where modules are made on the meta device
    offset = places[None, :] - places[:, None]
    one_side = buckets // 2
    exact = one_side // 2
    distance = offset.abs()
    part = torch.log(distance.clamp_min(exact).float() / exact) / math.log(max_distance / exact)
    far = (exact + (part * (one_side - exact)).long()).clamp_max(one_side - 1)
    return torch.where(distance < exact, distance, far) + (offset > 0) * one_side


def _untie(_module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """What is tied is needed once, under whichever of its two names it was saved."""
    tied = state_dict.pop(prefix + _TIED, None)
    if tied is not None:
        state_dict.setdefault(prefix + "shared.weight", tied)
