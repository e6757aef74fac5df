"""Wan's transformer: the same mathematics as diffusers', in fewer passes over memory.

What does not change from step to step is computed once a render: the keys and values of the prompt,
and the positions. Scale and shift ride on the layer norm, and query, key and value are one product.

Pieces go by the names they have in diffusers; ``fuse`` turns its weights into the ones used here.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

from services.gpu_worker.engine.text import TOKENS_MAX

# In half precision these would cost quality, as their authors found.
FLOAT32_PARTS = ("time_embedder", "scale_shift_table", "norm2")

_GATE = ".to_gate_compress."
_ROPE_THETA = 10_000.0
_TIME_PERIOD_MAX = 10_000.0


@dataclass(frozen=True)
class TransformerConfig:
    patch_size: tuple[int, int, int]
    heads: int
    head_dim: int
    channels: int  # of latents, in and out
    text_dim: int
    time_dim: int
    ffn_dim: int
    layers: int
    eps: float

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """From the ``config.json`` of a ``WanTransformer3DModel``."""
        patch_size = config["patch_size"]
        return cls(
            patch_size=(patch_size[0], patch_size[1], patch_size[2]),
            heads=config["num_attention_heads"],
            head_dim=config["attention_head_dim"],
            channels=config["in_channels"],
            text_dim=config["text_dim"],
            time_dim=config["freq_dim"],
            ffn_dim=config["ffn_dim"],
            layers=config["num_layers"],
            eps=config["eps"],
        )


@dataclass(frozen=True)
class Texts:
    """What each block attends to, one row a prompt."""

    keys_and_values: tuple[tuple[Tensor, Tensor], ...]
    weights: Tensor | None  # logarithms, to be added to the scores; None where all count once


class Transformer(nn.Module):
    """Predicts the noise in latents. A batch is one video under several prompts."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.dim
        # Patches do not overlap: cutting them out and one product are that convolution.
        patch_numbers = config.channels * math.prod(config.patch_size)
        self.patch_embedding = nn.Linear(patch_numbers, width)
        self.condition_embedder = _ConditionEmbedder(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.scale_shift_table = nn.Parameter(torch.empty(1, 2, width))
        self.proj_out = nn.Linear(width, patch_numbers)
        # What runs a block: itself, or a compiled package given its weights.
        self.run_block: Callable[..., Tensor] = _call

    @property
    def dtype(self) -> torch.dtype:
        return self.proj_out.weight.dtype

    def read(self, embeddings: list[Tensor]) -> Texts:
        """Embeddings of different lengths, each (1, tokens, text width)."""
        if self.dtype == torch.float32:
            padded, weights = _with_one_padding(embeddings)
        else:
            # The logarithm of how many they are needs more digits than half a float has.
            padded, weights = _with_every_padding(embeddings), None
        states = self.condition_embedder.text_embedder(padded.to(self.dtype))
        blocks = cast("Iterable[Block]", self.blocks)
        return Texts(tuple(block.read(states) for block in blocks), weights)

    def positions(self, latents: Tensor) -> Tensor:
        """(tokens, 1, half a head, 2): cosines and sines, to turn queries and keys by."""
        sizes = [
            length // patch
            for length, patch in zip(latents.shape[2:], self.config.patch_size, strict=True)
        ]
        side = 2 * (self.config.head_dim // 6)
        widths = (self.config.head_dim - 2 * side, side, side)
        grids = []
        for axis, (size, width) in enumerate(zip(sizes, widths, strict=True)):
            speeds = _ROPE_THETA ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
            angles = torch.outer(torch.arange(size, dtype=torch.float64), speeds)
            shape = [1, 1, 1, -1]
            shape[axis] = size
            grids.append(angles.view(shape).expand(*sizes, -1))
        angles = torch.cat(grids, dim=-1).flatten(0, 2).unsqueeze(1)
        turns = torch.stack([angles.cos(), angles.sin()], dim=-1)
        return turns.float().to(latents.device)

    def forward(self, latents: Tensor, step: Tensor, texts: Texts, positions: Tensor) -> Tensor:
        """The noise under each of the texts, in the latents' shape but for the batch."""
        embedded, changes = self.condition_embedder(step, self.dtype)
        tokens = self.patch_embedding(self._cut(latents.to(self.dtype)))
        tokens = tokens.expand(texts.keys_and_values[0][0].shape[0], -1, -1)
        for block, (key, value) in zip(self.blocks, texts.keys_and_values, strict=True):
            tokens = self.run_block(block, tokens, changes, key, value, texts.weights, positions)
        shift, scale = (self.scale_shift_table[0] + embedded).float().unbind(0)
        return self._join(self.proj_out(_norm(tokens, scale, shift, self.config.eps)), latents)

    def _cut(self, latents: Tensor) -> Tensor:
        """(batch, tokens, the numbers of a patch)."""
        batch, channels, frames, height, width = latents.shape
        deep, high, wide = self.config.patch_size
        grid = latents.view(
            *(batch, channels, frames // deep, deep),
            *(height // high, high, width // wide, wide),
        )
        return grid.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def _join(self, patches: Tensor, latents: Tensor) -> Tensor:
        _, _, frames, height, width = latents.shape
        deep, high, wide = self.config.patch_size
        grid = patches.view(
            *(patches.shape[0], frames // deep, height // high, width // wide),
            *(deep, high, wide, -1),
        )
        return grid.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


class _ConditionEmbedder(nn.Module):
    """The time and the text, as the blocks take them."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.dim
        self._time_dim = config.time_dim
        self.time_embedder = _Projection(config.time_dim, width, nn.SiLU())
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = _Projection(config.text_dim, width, nn.GELU("tanh"))

    def forward(self, step: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """One width; and the six by which each block is steered."""
        half = self._time_dim // 2
        exponents = torch.arange(half, dtype=torch.float32, device=step.device) / half
        angles = step.float() * torch.exp(exponents * -math.log(_TIME_PERIOD_MAX))
        wave = torch.cat([angles.cos(), angles.sin()]).unsqueeze(0)
        time = self.time_embedder(wave.to(self.time_embedder.linear_1.weight.dtype)).to(dtype)
        return time, self.time_proj(F.silu(time)).view(6, -1)


class _Projection(nn.Module):
    def __init__(self, width_in: int, width_out: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(width_in, width_out)
        self.activation = activation
        self.linear_2 = nn.Linear(width_out, width_out)

    def forward(self, states: Tensor) -> Tensor:
        result: Tensor = self.linear_2(self.activation(self.linear_1(states)))
        return result


class Block(nn.Module):
    """Attention among the video's tokens, attention to the text, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.dim
        self._heads, self._eps = config.heads, config.eps
        self.attn1 = nn.ModuleDict(
            {"to_qkv": nn.Linear(width, 3 * width)} | _attention_parts(width, config.eps)
        )
        self.attn2 = nn.ModuleDict(
            {"to_q": nn.Linear(width, width), "to_kv": nn.Linear(width, 2 * width)}
            | _attention_parts(width, config.eps)
        )
        self.norm2 = nn.LayerNorm(width, config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(width, config.ffn_dim),
            nn.GELU("tanh"),
            nn.Linear(config.ffn_dim, width),
        )
        self.scale_shift_table = nn.Parameter(torch.empty(1, 6, width))

    def read(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """The texts' keys and values, (batch, heads, tokens, a head) each."""
        key, value = self.attn2["to_kv"](states).chunk(2, dim=-1)
        return (
            self._by_head(self.attn2["norm_k"](key)).contiguous(),
            self._by_head(value).contiguous(),
        )

    def forward(  # noqa: PLR0917 - a compiled package takes its arguments in their order
        self,
        tokens: Tensor,
        changes: Tensor,
        key: Tensor,
        value: Tensor,
        weights: Tensor | None,
        positions: Tensor,
    ) -> Tensor:
        """(batch, tokens, width) to the same; the other arguments are a ``Texts``' and the time's."""
        steering = (self.scale_shift_table[0] + changes.float()).unbind(0)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = steering
        change = self._attend(_norm(tokens, scale, shift, self._eps), positions)
        tokens = _gated(tokens, change, gate)
        asking = self.norm2(tokens.float()).type_as(tokens)
        tokens = tokens + self._ask(asking, key, value, weights)
        change = self.ffn(_norm(tokens, ffn_scale, ffn_shift, self._eps))
        return _gated(tokens, change, ffn_gate)

    def _attend(self, tokens: Tensor, positions: Tensor) -> Tensor:
        query, key, value = self.attn1["to_qkv"](tokens).chunk(3, dim=-1)
        query = self._turn(self.attn1["norm_q"](query), positions)
        key = self._turn(self.attn1["norm_k"](key), positions)
        found = F.scaled_dot_product_attention(query, key, self._by_head(value))
        return _project(self.attn1, found)

    def _ask(self, tokens: Tensor, key: Tensor, value: Tensor, weights: Tensor | None) -> Tensor:
        query = self._by_head(self.attn2["norm_q"](self.attn2["to_q"](tokens)))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=weights)
        return _project(self.attn2, found)

    def _turn(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Neighbouring numbers are one complex number: a position turns it."""
        heads = tokens.float().view(*tokens.shape[:-1], self._heads, -1, 2)
        if torch.compiler.is_compiling():
            # A compiler fuses sums and products, and knows nothing of complex numbers.
            (real, imaginary), (cosine, sine) = heads.unbind(-1), positions.unbind(-1)
            turned = torch.stack(
                [real * cosine - imaginary * sine, real * sine + imaginary * cosine], dim=-1
            )
        else:
            angles = torch.view_as_complex(positions)
            turned = torch.view_as_real(torch.view_as_complex(heads).mul_(angles))
        return turned.flatten(3).type_as(tokens).transpose(1, 2)

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:-1], self._heads, -1).transpose(1, 2)


def _attention_parts(width: int, eps: float) -> dict[str, nn.Module]:
    return {
        "norm_q": nn.RMSNorm(width, eps),
        "norm_k": nn.RMSNorm(width, eps),
        "to_out": nn.Linear(width, width),
    }


def fuse(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a ``WanTransformer3DModel`` as ``Transformer`` has them."""
    fused: dict[str, Tensor] = {}
    # FastWan's attention chooses by them what to leave out; ours leaves out nothing.
    weights = {name: weight for name, weight in weights.items() if _GATE not in name}
    for name, weight in weights.items():
        prefix, _, last = name.rpartition(".")
        block, _, layer = prefix.rpartition(".")
        match layer:
            case "to_q" if block.endswith("attn1"):
                parts = [weights[f"{block}.{part}.{last}"] for part in ("to_q", "to_k", "to_v")]
                fused[f"{block}.to_qkv.{last}"] = torch.cat(parts)
            case "to_k" if block.endswith("attn2"):
                parts = [weights[f"{block}.{part}.{last}"] for part in ("to_k", "to_v")]
                fused[f"{block}.to_kv.{last}"] = torch.cat(parts)
            case "to_k" | "to_v":
                continue
            case _:
                new = name.replace("to_out.0.", "to_out.")
                new = new.replace("ffn.net.0.proj.", "ffn.0.").replace("ffn.net.2.", "ffn.2.")
                fused[new] = weight
    fused["patch_embedding.weight"] = weights["patch_embedding.weight"].flatten(1)
    return fused


def _call(block: Block, *arguments: Tensor | None) -> Tensor:
    result: Tensor = block(*arguments)
    return result


def _norm(tokens: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """A layer norm without weights of its own, scaled and shifted by the time."""
    result = F.layer_norm(tokens.float(), tokens.shape[-1:], scale + 1, shift, eps)
    return result.type_as(tokens)


def _gated(tokens: Tensor, change: Tensor, gate: Tensor) -> Tensor:
    return torch.addcmul(tokens.float(), change.float(), gate).type_as(tokens)


def _project(attention: nn.ModuleDict, found: Tensor) -> Tensor:
    result: Tensor = attention["to_out"](found.transpose(1, 2).flatten(2))
    return result


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
