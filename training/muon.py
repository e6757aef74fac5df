"""Muon: the momentum of a matrix, made orthogonal, so that every direction of it is learned at one pace.

After Keller Jordan's (https://kellerjordan.github.io/posts/muon/), with the size of an AdamW step as in
Liu et al. 2025 (arXiv 2502.16982). torch's own reckons in bfloat16, which most CPUs only pretend to.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_DECAY = 0.01
_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ADAM_STEP = 0.2  # the root mean square of what AdamW adds, in learning rates


class Muon(torch.optim.Optimizer):
    """For matrices alone."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None, "nothing here asks for the error again"
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in alike.items():
                moves = orthogonal(torch.stack([self._momentum(matrix) for matrix in matrices]))
                size = group["lr"] * _ADAM_STEP * max(shape) ** 0.5
                for matrix, move in zip(matrices, moves, strict=True):
                    matrix.mul_(1 - group["lr"] * _DECAY).sub_(move, alpha=size)

    def _momentum(self, matrix: nn.Parameter) -> Tensor:
        """Nesterov's."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum = state["momentum"].lerp_(matrix.grad, 1 - _MOMENTUM)
        return matrix.grad.lerp(momentum, _MOMENTUM)


class MuonAndAdamW:
    """Muon for these matrices, AdamW for all else; each at its own highest rate."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        *,
        matrix_rate: float,
        other_rate: float,
    ) -> None:
        self._parts: dict[str, tuple[torch.optim.Optimizer, float]] = {
            "muon": (Muon(matrices, matrix_rate), matrix_rate),
            "adamw": (
                torch.optim.AdamW(
                    others, lr=other_rate, weight_decay=_DECAY, betas=(0.9, 0.98), fused=True
                ),
                other_rate,
            ),
        }

    def step(self, share: float) -> None:
        """With this share of the highest rates."""
        for optimizer, rate in self._parts.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer, _ in self._parts.values():
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        return {name: optimizer.state_dict() for name, (optimizer, _) in self._parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, (optimizer, _) in self._parts.items():
            optimizer.load_state_dict(state[name])


def orthogonal(matrices: Tensor) -> Tensor:
    """(matrices, rows, columns), each with singular values of about 1 in the place of its own."""
    tall = matrices.shape[1] > matrices.shape[2]
    found = matrices.transpose(1, 2) if tall else matrices
    found = found / (found.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        square = found @ found.transpose(1, 2)
        found = torch.baddbmm(
            found, torch.baddbmm(square, square, square, beta=b, alpha=c), found, beta=a
        )
    return found.transpose(1, 2) if tall else found
