"""Where an object is in each frame. Speeds are fixed: a longer clip shows more of the same motion."""

import math
import random
from collections.abc import Sequence

import torch

from training.drawing import Objects
from training.pictures import palette
from training.world import BACKGROUNDS, COLOURS, FRAMES, HEIGHT, SHAPES, WIDTH, Scene

# Pixels. Places are multiples of these, so that there are fewer pictures of which to learn more.
_GRID = 8
_RADIUS = 24.0
_MARGIN = 36  # a star of this radius fits
_ACROSS = 1.5  # pixels a frame
_DOWN = 0.625
_BOUNCE_HEIGHT, _BOUNCE_FRAMES = 56.0, 32
_BEGINS_IN = 8  # parts of a bounce: any of them may come first
_TURN = math.radians(2.25)  # a frame, clockwise
_SMALL, _GROWTH = 13.0, 2.5  # the radius that growing begins with; times, in a whole clip
_ROOM = 48  # a star that has grown fits
_SIGN = {"left": -1, "right": 1, "up": -1, "down": 1}


def objects_of(scene: Scene, frames: Sequence[float], dice: random.Random) -> Objects:
    """The object at these times of a clip of 81 frames; the dice choose where."""
    time = torch.tensor(list(frames), dtype=torch.float32)
    last = FRAMES - 1
    margin = _ROOM if scene.motion in {"grow", "shrink"} else _MARGIN
    x = torch.full_like(time, _somewhere(margin, WIDTH - margin, dice))
    y = torch.full_like(time, _somewhere(margin, HEIGHT - margin, dice))
    radius = torch.full_like(time, _RADIUS)
    angle = torch.zeros_like(time)
    match scene.motion:
        case "left" | "right":
            way = last * _ACROSS / 2
            middle = _somewhere(_MARGIN + way, WIDTH - _MARGIN - way, dice)
            x = middle + _SIGN[scene.motion] * _ACROSS * (time - last / 2)
        case "up" | "down":
            way = last * _DOWN / 2
            middle = _somewhere(_MARGIN + way, HEIGHT - _MARGIN - way, dice)
            y = middle + _SIGN[scene.motion] * _DOWN * (time - last / 2)
        case "bounce":
            part = (time / _BOUNCE_FRAMES + dice.randrange(_BEGINS_IN) / _BEGINS_IN) % 1
            y = HEIGHT - _MARGIN - _BOUNCE_HEIGHT * 4 * part * (1 - part)
        case "rotate":
            angle = _TURN * time
        case "grow" | "shrink":
            part = time / last if scene.motion == "grow" else 1 - time / last
            radius = _SMALL * _GROWTH**part
    colour = palette({scene.colour: COLOURS[scene.colour]})
    return Objects(
        shape=torch.full(time.shape, SHAPES.index(scene.shape)),
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        colour=colour.expand(len(time), 3),
    )


def _somewhere(low: float, high: float, dice: random.Random) -> float:
    """On the grid between these, the first of them included."""
    return low + _GRID * dice.randrange(int(high - low) // _GRID + 1)


def behind(scene: Scene, pictures: int) -> torch.Tensor:
    """(pictures, 3) of 0 to 1."""
    return palette({scene.background: BACKGROUNDS[scene.background]}).expand(pictures, 3)
