"""Where an object is in each frame. Speeds are fixed: a longer clip shows more of the same motion."""

import math
from collections.abc import Sequence

import torch

from training.drawing import Objects
from training.pictures import palette
from training.world import BACKGROUNDS, COLOURS, FRAMES, HEIGHT, SHAPES, WIDTH, Scene

# Pixels. An object is in the middle, or on its way through it: that a clip may be in one of several places has
# to be agreed on by all of its frames, and the small model is slow to learn that.
_RADIUS = 30.0
_ACROSS = 1.6  # pixels a frame
_DOWN = 0.5
_BOUNCE_HEIGHT, _BOUNCE_FRAMES = 40.0, 32
_TURN = math.radians(2.25)  # a frame, clockwise
_SMALL, _GROWTH = 14.0, 2.5  # the radius that growing begins with; times, in a whole clip
_SIGN = {"left": -1, "right": 1, "up": -1, "down": 1}


def objects_of(scene: Scene, frames: Sequence[float]) -> Objects:
    """The object at these times of a clip of 81 frames."""
    time = torch.tensor(list(frames), dtype=torch.float32)
    last = FRAMES - 1
    x = torch.full_like(time, WIDTH / 2)
    y = torch.full_like(time, HEIGHT / 2)
    radius = torch.full_like(time, _RADIUS)
    angle = torch.zeros_like(time)
    match scene.motion:
        case "left" | "right":
            x = WIDTH / 2 + _SIGN[scene.motion] * _ACROSS * (time - last / 2)
        case "up" | "down":
            y = HEIGHT / 2 + _SIGN[scene.motion] * _DOWN * (time - last / 2)
        case "bounce":
            part = time / _BOUNCE_FRAMES % 1
            y = (HEIGHT + _BOUNCE_HEIGHT) / 2 - _BOUNCE_HEIGHT * 4 * part * (1 - part)
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


def behind(scene: Scene, pictures: int) -> torch.Tensor:
    """(pictures, 3) of 0 to 1."""
    return palette({scene.background: BACKGROUNDS[scene.background]}).expand(pictures, 3)
