"""Weights in one byte each: for a text encoder, whose size is what a start waits for.

Each row of a matrix is scaled to the range of float8 (e4m3) by a factor of its own. What is computed
is computed in the precision of the states: a matrix is brought back when it is used.
"""

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import Tensor, nn

FLOAT8 = torch.float8_e4m3fn

_LARGEST = torch.finfo(FLOAT8).max
_SMALLEST_SCALE = 1e-12  # a row of zeros stays one


class Float8Linear(nn.Module):
    """A linear layer without bias."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_out, width_in, dtype=FLOAT8))
        self.scale = nn.Parameter(torch.empty(width_out, 1))

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.weight.to(states.dtype) * self.scale.to(states.dtype))


class Float8Embedding(nn.Module):
    """Rows to look up, each brought back to ``dtype``."""

    def __init__(self, rows: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        self.weight = nn.Parameter(torch.empty(rows, width, dtype=FLOAT8))
        self.scale = nn.Parameter(torch.empty(rows, 1))

    def forward(self, ids: Tensor) -> Tensor:
        # float8 has no lookup of its own: bytes have.
        rows = F.embedding(ids, self.weight.view(torch.uint8)).view(FLOAT8)
        return rows.to(self._dtype) * F.embedding(ids, self.scale).to(self._dtype)


def replace_layers(module: nn.Module, names: re.Pattern[str], dtype: torch.dtype) -> None:
    """Make float8 layers of the linear ones and embeddings whose names match."""
    for name, layer in list(module.named_modules()):
        if not names.search(name):
            continue
        match layer:
            case nn.Linear():
                new: nn.Module = Float8Linear(layer.in_features, layer.out_features)
            case nn.Embedding():
                new = Float8Embedding(layer.num_embeddings, layer.embedding_dim, dtype)
            case _:
                continue
        parent, _, last = name.rpartition(".")
        setattr(module.get_submodule(parent), last, new)


def quantize(weights: Mapping[str, Tensor], names: re.Pattern[str]) -> dict[str, Tensor]:
    """The weights of a module whose layers ``replace_layers`` replaced, from those it had before."""
    quantized = {}
    for name, weight in weights.items():
        layer, _, last = name.rpartition(".")
        if last != "weight" or not names.search(layer):
            quantized[name] = weight
            continue
        rows = weight.float()
        scale = rows.abs().amax(dim=1, keepdim=True).clamp_min(_SMALLEST_SCALE) / _LARGEST
        quantized[name] = (rows / scale).to(FLOAT8)
        quantized[f"{layer}.scale"] = scale
    return quantized
