"""Wan's transformer: the same weights and mathematics as diffusers', in fewer passes over memory.

What does not change from step to step is computed once a render: the keys and values of the prompt,
and the positions. Scale and shift ride on the layer norm, and query, key and value are one product.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
from torch import Tensor

from services.gpu_worker.engine.text import TOKENS_MAX


@dataclass(frozen=True)
class Texts:
    """What each block attends to, one row a prompt."""

    keys_and_values: tuple[tuple[Tensor, Tensor], ...]
    weights: Tensor | None  # logarithms, to be added to the scores; None where all count once


class Transformer:
    """Predicts the noise in latents. A batch is one video under several prompts."""

    def __init__(self, model: WanTransformer3DModel) -> None:
        self._patch: tuple[int, int, int] = model.config.patch_size
        self._embedder = model.condition_embedder
        self._rope = model.rope
        self._dtype: torch.dtype = model.dtype
        # Patches do not overlap: cutting them out and one product are that convolution.
        embedding = model.patch_embedding
        self._patch_embedding = (embedding.weight.flatten(1), embedding.bias)
        self._blocks = [_Block(block) for block in model.blocks]
        self._table = model.scale_shift_table
        self._eps: float = model.norm_out.eps
        self._proj_out = model.proj_out
        self.channels: int = model.config.in_channels

    def read(self, embeddings: list[Tensor]) -> Texts:
        """Embeddings of different lengths, each (1, tokens, text width)."""
        if self._dtype == torch.float32:
            padded, weights = _with_one_padding(embeddings)
        else:
            # The logarithm of how many they are needs more digits than half a float has.
            padded, weights = _with_every_padding(embeddings), None
        states = self._embedder.text_embedder(padded.to(self._dtype))
        return Texts(tuple(block.read(states) for block in self._blocks), weights)

    def positions(self, latents: Tensor) -> Tensor:
        """(tokens, 1, half a head): complex numbers of length one, to turn queries and keys by."""
        cosines, sines = self._rope(latents)
        return torch.complex(cosines[0, ..., 0::2].float(), sines[0, ..., 1::2].float())

    def __call__(self, latents: Tensor, step: Tensor, texts: Texts, positions: Tensor) -> Tensor:
        """The noise under each of the texts, in the latents' shape but for the batch."""
        embedded, changes = self._embed_time(step)
        tokens = F.linear(self._cut(latents.to(self._dtype)), *self._patch_embedding)
        tokens = tokens.expand(texts.keys_and_values[0][0].shape[0], -1, -1)
        for block, text in zip(self._blocks, texts.keys_and_values, strict=True):
            tokens = block(tokens, changes, text, texts.weights, positions)
        shift, scale = (self._table[0] + embedded).float().unbind(0)
        return self._join(self._proj_out(_norm(tokens, scale, shift, self._eps)), latents)

    def _embed_time(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """One width; and the six by which each block is steered."""
        embedder = self._embedder
        wave = embedder.timesteps_proj(step.view(1))
        wave = wave.to(next(embedder.time_embedder.parameters()).dtype)
        embedded = embedder.time_embedder(wave).to(self._dtype)
        changes = embedder.time_proj(embedder.act_fn(embedded))
        return embedded, changes.view(6, -1)

    def _cut(self, latents: Tensor) -> Tensor:
        """(batch, tokens, the numbers of a patch)."""
        batch, channels, frames, height, width = latents.shape
        deep, high, wide = self._patch
        grid = latents.view(
            *(batch, channels, frames // deep, deep),
            *(height // high, high, width // wide, wide),
        )
        return grid.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def _join(self, patches: Tensor, latents: Tensor) -> Tensor:
        _, _, frames, height, width = latents.shape
        deep, high, wide = self._patch
        grid = patches.view(
            *(patches.shape[0], frames // deep, height // high, width // wide),
            *(deep, high, wide, -1),
        )
        return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class _Block:
    def __init__(self, block: WanTransformerBlock) -> None:
        own, cross = block.attn1, block.attn2
        self._heads: int = own.heads
        self._to_qkv = _stack(own.to_q, own.to_k, own.to_v)
        self._own = own
        self._cross = cross
        self._to_kv = _stack(cross.to_k, cross.to_v)
        self._norm_cross = block.norm2
        self._ffn = block.ffn
        self._table = block.scale_shift_table
        self._eps = (block.norm1.eps, block.norm3.eps)

    def read(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The texts' keys and values, (batch, heads, tokens, a head) each."""
        key, value = F.linear(states, *self._to_kv).chunk(2, dim=-1)
        return self._by_head(self._cross.norm_k(key)), self._by_head(value)

    def __call__(
        self,
        tokens: Tensor,
        changes: Tensor,
        text: tuple[Tensor, Tensor],
        weights: Tensor | None,
        positions: Tensor,
    ) -> Tensor:
        steering = (self._table[0] + changes.float()).unbind(0)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = steering
        change = self._attend(_norm(tokens, scale, shift, self._eps[0]), positions)
        tokens = _gated(tokens, change, gate)
        asking = self._norm_cross(tokens.float()).type_as(tokens)
        tokens = tokens + self._ask(asking, text, weights)
        change = self._ffn(_norm(tokens, ffn_scale, ffn_shift, self._eps[1]))
        return _gated(tokens, change, ffn_gate)

    def _attend(self, tokens: Tensor, positions: Tensor) -> Tensor:
        query, key, value = F.linear(tokens, *self._to_qkv).chunk(3, dim=-1)
        query = self._turn(self._own.norm_q(query), positions)
        key = self._turn(self._own.norm_k(key), positions)
        found = F.scaled_dot_product_attention(query, key, self._by_head(value))
        return _project(self._own, found)

    def _ask(self, tokens: Tensor, text: tuple[Tensor, Tensor], weights: Tensor | None) -> Tensor:
        query = self._by_head(self._cross.norm_q(self._cross.to_q(tokens)))
        return _project(
            self._cross, F.scaled_dot_product_attention(query, *text, attn_mask=weights)
        )

    def _turn(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Neighbouring numbers are one complex number: a position turns it."""
        heads = tokens.float().view(*tokens.shape[:-1], self._heads, -1, 2)
        turned = torch.view_as_real(torch.view_as_complex(heads).mul_(positions))
        return turned.flatten(3).type_as(tokens).transpose(1, 2)

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:-1], self._heads, -1).transpose(1, 2)


def _norm(tokens: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """A layer norm without weights of its own, scaled and shifted by the time."""
    result = F.layer_norm(tokens.float(), tokens.shape[-1:], scale + 1, shift, eps)
    return result.type_as(tokens)


def _gated(tokens: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    return torch.addcmul(tokens.float(), change.float(), gate).type_as(tokens)


def _project(attention: WanAttention, found: Tensor) -> Tensor:
    result: Tensor = attention.to_out[0](found.transpose(1, 2).flatten(2))
    return result


def _stack(*layers: torch.nn.Linear) -> tuple[Tensor, Tensor]:
    """One matrix of several that are applied to the same tokens."""
    weight = torch.cat([layer.weight for layer in layers])
    return weight, torch.cat([layer.bias for layer in layers])


def _with_every_padding(embeddings: list[Tensor]) -> Tensor:
    return torch.cat([F.pad(text, (0, 0, 0, TOKENS_MAX - text.shape[1])) for text in embeddings])


def _with_one_padding(embeddings: list[Tensor]) -> tuple[Tensor, Tensor]:
    """All padding of a prompt is alike: one that counts for all of them gives the same."""
    lengths = [text.shape[1] for text in embeddings]
    longest = max(lengths)
    padded = torch.cat([F.pad(text, (0, 0, 0, longest + 1 - text.shape[1])) for text in embeddings])
    weights = padded.new_full((len(lengths), 1, 1, longest + 1), -math.inf)
    for row, length in enumerate(lengths):
        weights[row, ..., :length] = 0
        if length < TOKENS_MAX:
            weights[row, ..., length] = math.log(TOKENS_MAX - length)
    return padded, weights
