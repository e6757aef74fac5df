"""Where an object is in each frame. Speeds are fixed: a longer clip shows more of the same motion."""

import math
import random
from collections.abc import Sequence

import torch

from training.drawing import Objects
from training.pictures import palette
from training.world import BACKGROUNDS, COLOURS, FRAMES, HEIGHT, SHAPES, WIDTH, Scene

_RADIUS = (31.0, 37.0)  # pixels
_MARGIN = 54.0  # a star of the largest radius fits
_ACROSS = 3.0  # pixels a frame
_DOWN = 1.6
_BOUNCE_HEIGHT, _BOUNCE_FRAMES = 120.0, 32
_TURN = math.radians(4.0)  # a frame, clockwise
_GROWTH = 3.0  # times, in a whole clip
_SMALL = (20.0, 23.0)  # the radius that growing begins with
_SIGN = {"left": -1, "right": 1, "up": -1, "down": 1}


def objects_of(scene: Scene, frames: Sequence[float], dice: random.Random) -> Objects:
    """The object at these times of a clip of 81 frames; the dice choose where and how large."""
    time = torch.tensor(list(frames), dtype=torch.float32)
    last = FRAMES - 1
    x = torch.full_like(time, dice.uniform(_MARGIN, WIDTH - _MARGIN))
    y = torch.full_like(time, dice.uniform(_MARGIN, HEIGHT - _MARGIN))
    radius = torch.full_like(time, dice.uniform(*_RADIUS))
    angle = torch.zeros_like(time)
    match scene.motion:
        case "left" | "right":
            span = (WIDTH - 2 * _MARGIN - last * _ACROSS) / 2
            middle = WIDTH / 2 + dice.uniform(-span, span)
            x = middle + _SIGN[scene.motion] * _ACROSS * (time - last / 2)
        case "up" | "down":
            span = (HEIGHT - 2 * _MARGIN - last * _DOWN) / 2
            middle = HEIGHT / 2 + dice.uniform(-span, span)
            y = middle + _SIGN[scene.motion] * _DOWN * (time - last / 2)
        case "bounce":
            part = (time / _BOUNCE_FRAMES + dice.random()) % 1
            y = HEIGHT - _MARGIN - _BOUNCE_HEIGHT * 4 * part * (1 - part)
        case "rotate":
            angle = _TURN * time
        case "grow" | "shrink":
            part = time / last if scene.motion == "grow" else 1 - time / last
            radius = dice.uniform(*_SMALL) * _GROWTH**part
            room = _SMALL[1] * _GROWTH * 1.45
            x = torch.full_like(time, dice.uniform(room, WIDTH - room))
            y = torch.full_like(time, dice.uniform(room, HEIGHT - room))
    colour = palette({scene.colour: COLOURS[scene.colour]})
    return Objects(
        shape=torch.full(time.shape, SHAPES.index(scene.shape)),
        x=x,
        y=y,
        radius=radius,
        angle=angle,
        colour=colour.expand(len(time), 3),
    )


def behind(scene: Scene, pictures: int) -> torch.Tensor:
    """(pictures, 3) of 0 to 1."""
    return palette({scene.background: BACKGROUNDS[scene.background]}).expand(pictures, 3)
