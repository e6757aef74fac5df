"""Scenes to pixels: shapes with smooth edges, drawn from the distance to their outline."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from training.world import SHAPES


@dataclass(frozen=True)
class _Outline:
    """A star of so many points; a polygon is one whose inner corners lie on its sides."""

    points: int
    outer: float  # of the outer corners, in radii of a circle of about the same area
    inner: float
    turned: float  # radians, so that it stands upright

    @classmethod
    def polygon(cls, points: int, outer: float, turned: float) -> "_Outline":
        return cls(points, outer, outer * math.cos(math.pi / points), turned)


_UP = -math.pi / 2
_OUTLINES = {
    "square": _Outline.polygon(4, 1.22, math.pi / 4),
    "triangle": _Outline.polygon(3, 1.45, _UP),
    "star": _Outline(5, 1.45, 0.62, _UP),
}


@dataclass(frozen=True)
class Objects:
    """One object a picture; each field is (pictures,) but for the colours, (pictures, 3) of 0 to 1."""

    shape: Tensor  # index into SHAPES
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    colour: Tensor


def coverage(objects: Objects, columns: Tensor, rows: Tensor) -> Tensor:
    """(pictures, height, width), 1 inside and 0 outside.

    ``columns`` (pictures, width) and ``rows`` (pictures, height) are the pixels' own coordinates.
    """
    across = columns[:, None, :] - objects.x[:, None, None]
    down = rows[:, :, None] - objects.y[:, None, None]
    distance = torch.hypot(across, down)
    direction = torch.atan2(down, across) - objects.angle[:, None, None]
    radius = objects.radius[:, None, None]
    result = torch.zeros_like(distance)
    for index, name in enumerate(SHAPES):
        chosen = objects.shape == index
        if chosen.any():
            outside = _outside(name, distance[chosen], direction[chosen], radius[chosen])
            result[chosen] = (0.5 - outside).clamp(0, 1)
    return result


def _outside(name: str, distance: Tensor, direction: Tensor, radius: Tensor) -> Tensor:
    """How far a pixel is outside of the outline, negative inside."""
    if name not in _OUTLINES:
        return distance - radius
    outline = _OUTLINES[name]
    half = math.pi / outline.points
    # All points of a star are alike, and so are the two sides of each.
    folded = (torch.remainder(direction - outline.turned + half, 2 * half) - half).abs()
    tip = outline.outer
    valley_x, valley_y = outline.inner * math.cos(half), outline.inner * math.sin(half)
    length = math.hypot(tip - valley_x, valley_y)
    normal_x, normal_y = valley_y / length, (tip - valley_x) / length
    x, y = distance * folded.cos(), distance * folded.sin()
    return (x - tip * radius) * normal_x + y * normal_y


def paint(background: Tensor, colour: Tensor, covered: Tensor) -> Tensor:
    """(pictures, 3, height, width) of 0 to 1; ``background`` is (pictures, 3) or already a picture."""
    if background.ndim == 2:  # noqa: PLR2004 - (pictures, 3)
        background = background[:, :, None, None]
    part = covered[:, None]
    return background * (1 - part) + colour[:, :, None, None] * part
