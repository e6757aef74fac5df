"""How the transformer attends to prompts in training: exactly as in a render, without the waste.

A render pads each prompt to 512 tokens with zeros, and the transformer sees them. All padding is
alike: one zero that counts for all of them gives the same.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

TOKENS_MAX = 512


class Reader:
    """Prompts to embeddings, and the weights their tokens have."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, encoder: UMT5EncoderModel, device: torch.device
    ) -> None:
        self._tokenizer, self._encoder, self._device = tokenizer, encoder, device

    def read(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(prompts, tokens, width) with one padding last, and (prompts, 1, 1, tokens) logarithms."""
        read = self._tokenizer(prompts, padding=True, return_tensors="pt").to(self._device)
        mask = read.attention_mask
        states = self._encoder(read.input_ids, mask).last_hidden_state * mask[..., None]
        states = F.pad(states, (0, 0, 0, 1))
        weights = torch.where(mask.bool(), 0.0, -math.inf)
        weights = F.pad(weights, (0, 1))
        weights[:, -1] = torch.log(TOKENS_MAX - mask.sum(1))
        return states, weights[:, None, None, :]


class CountingAttention:
    """diffusers' attention of Wan; where it reads text, tokens count as often as they occur."""

    def __init__(self) -> None:
        self.weights: Tensor | None = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - diffusers' signature
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        text = encoder_hidden_states
        source = hidden_states if text is None else text
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(source)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(source).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = _turned(query, *rotary_emb), _turned(key, *rotary_emb)
        found = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=None if text is None else self.weights,
        )
        result: Tensor = attn.to_out[0](found.transpose(1, 2).flatten(2))
        return result


def count_tokens(transformer: WanTransformer3DModel) -> CountingAttention:
    """All of its attention goes by what is returned; set ``weights`` before each call."""
    attention = CountingAttention()
    for module in transformer.modules():
        if isinstance(module, WanAttention):
            module.set_processor(attention)
    return attention


def _turned(tokens: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Neighbouring numbers are one complex number: a position turns it."""
    real, imaginary = tokens.unflatten(-1, (-1, 2)).unbind(-1)
    cosine, sine = cosines[..., 0::2], sines[..., 1::2]
    turned = torch.stack([real * cosine - imaginary * sine, real * sine + imaginary * cosine], -1)
    return turned.flatten(-2)


def is_text_attention(module: nn.Module) -> bool:
    return isinstance(module, WanAttention) and module.is_cross_attention
