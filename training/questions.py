"""Beside what it is for, the transformer learns to say where the object is, what it covers, and where a token is.

A token is told nothing of its own place: rotary positions say how far it is from others, so it has to find
out from where the others end. A motion has a beginning, and only by then can it be known which way it goes.

The halfway tokens are asked, by a small network that is thrown away afterwards. As with Yu et al. 2024
(arXiv 2410.06940), who ask for the features of an image encoder, the flow is learned sooner for it; of
drawn clips the truth itself is known.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from training.network import LATENT_PIXELS, PATCH
from training.world import LATENT_FRAMES

ASKED = 1  # the block after which it is asked, from 0
CELL = 8  # pixels a side: of each what share the object covers
_TOKEN = tuple(LATENT_PIXELS * side for side in PATCH[1:])  # pixels, down and across
_CELLS = tuple(side // CELL for side in _TOKEN)
_FAR = 64.0  # pixels
_PLACE = 0.2  # how much it counts beside the cells
_NEAR = 0.3
_OWN = 2.0  # how much a token's own place counts
# Numbers a token answers with: its cells, how far the object's middle is, and its own place.
_ANSWERS = (_CELLS[0] * _CELLS[1], 2, 3)


class Questions(nn.Module):
    """Listens to a transformer; ``error`` compares what its newest forward knew with the truth."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        super().__init__()
        width = transformer.proj_out.in_features
        self.answer = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, sum(_ANSWERS)),
        )
        self._heard = torch.empty(0)
        transformer.blocks[ASKED].register_forward_hook(self._listen)

    def _listen(self, _block: nn.Module, _given: object, tokens: Tensor) -> None:
        self._heard = tokens

    def error(self, cells: Tensor, middle: Tensor) -> Tensor:
        """``cells`` (clips, frames, height, width) of 0 to 1, ``middle`` (clips, frames, 2) in pixels, x and y."""
        of_cells, of_middle, of_itself = self._answers()
        covered = F.binary_cross_entropy_with_logits(of_cells, by_token(cells))
        height, width = (side // cell for side, cell in zip(cells.shape[2:], _CELLS, strict=True))
        place = F.smooth_l1_loss(of_middle, _from_token(middle, height, width), beta=_NEAR)
        itself = _misplaced(of_itself, cells.shape[1], height, width)
        return covered + _PLACE * place + _OWN * itself

    def error_of_places(self, frames: int, height: int, width: int) -> Tensor:
        """Only of where each token is; of latents of this shape."""
        _, _, of_itself = self._answers()
        return _misplaced(of_itself, frames, height // PATCH[1], width // PATCH[2])

    def _answers(self) -> tuple[Tensor, ...]:
        return self.answer(self._heard).split(_ANSWERS, dim=-1)


def by_token(cells: Tensor) -> Tensor:
    """(clips, tokens, cells of a token), in the transformer's order."""
    split = cells.unflatten(3, (-1, _CELLS[1])).unflatten(2, (-1, _CELLS[0]))
    return split.transpose(3, 4).flatten(4).flatten(1, 3)


def own_places(frames: int, height: int, width: int) -> Tensor:
    """(tokens, 3) of -1 to 1: how far each is from the first frame, the first row and the first column."""
    lengths = (LATENT_FRAMES, height, width)
    axes = [
        torch.arange(count) * 2 / (length - 1) - 1
        for count, length in zip((frames, height, width), lengths, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def _misplaced(found: Tensor, frames: int, height: int, width: int) -> Tensor:
    own = own_places(frames, height, width).to(found)
    return F.mse_loss(found, own.expand_as(found))


def _from_token(middle: Tensor, height: int, width: int) -> Tensor:
    """(clips, tokens, 2): how far it is from each token to the object's middle."""
    across = (torch.arange(width, device=middle.device) + 0.5) * _TOKEN[1]
    down = (torch.arange(height, device=middle.device) + 0.5) * _TOKEN[0]
    tokens = torch.stack(
        [across.expand(height, width), down[:, None].expand(height, width)], dim=-1
    )
    return ((middle[:, :, None, None] - tokens) / _FAR).flatten(1, 3)
