"""Pictures that the autoencoder learns from: more varied than any caption, and cut small."""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.drawing import Objects, coverage, paint
from training.world import BACKGROUNDS, COLOURS, SHAPES

_NAMED_COLOURS = 0.75  # of objects and backgrounds; the others are any colour
_EMPTY = 0.12  # nothing but a background
_TURNED = 0.4
_RADIUS = (12.0, 74.0)


@dataclass(frozen=True)
class Crops:
    """``pictures`` (crops, 3, side, side) of -1 to 1, ``covered`` (crops, side, side) of 0 to 1."""

    pictures: Tensor
    covered: Tensor


def palette(colours: dict[str, tuple[int, int, int]]) -> Tensor:
    """(colours, 3) of 0 to 1."""
    return torch.tensor(list(colours.values())) / 255


def draw_crops(count: int, side: int, generator: torch.Generator) -> Crops:
    """An object in each, or a part of one, somewhere in a square of ``side`` pixels."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    objects = Objects(
        shape=torch.randint(len(SHAPES), (count,), generator=generator),
        x=uniform(-0.15 * side, 1.15 * side),
        y=uniform(-0.15 * side, 1.15 * side),
        radius=_RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * uniform(0, 1) ** 2,
        # Most stand upright, as most do in clips.
        angle=uniform(-3.2, 3.2) * (uniform(0, 1) < _TURNED),
        colour=_colours(palette(dict(COLOURS)), count, generator),
    )
    behind = _colours(palette(dict(BACKGROUNDS)), count, generator)
    pixels = torch.arange(side, dtype=torch.float32).expand(count, side)
    covered = coverage(objects, pixels, pixels)
    covered *= (uniform(0, 1) >= _EMPTY)[:, None, None]
    return Crops(paint(behind, objects.colour, covered) * 2 - 1, covered)


def _colours(named: Tensor, count: int, generator: torch.Generator) -> Tensor:
    chosen = named[torch.randint(len(named), (count,), generator=generator)]
    free = torch.rand(count, 3, generator=generator)
    is_named = torch.rand(count, 1, generator=generator) < _NAMED_COLOURS
    return torch.where(is_named, chosen, free)
