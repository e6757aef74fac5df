"""Which scenes the model never sees, so that it can be asked for them."""

import hashlib
import random

from training.world import Scene, every_scene

_PARTS = 8  # one of so many is held out


def is_held_out(scene: Scene) -> bool:
    """By colour, shape and motion: these three never come together in training, on any background."""
    triple = f"{scene.colour} {scene.shape} {scene.motion}"
    return hashlib.sha256(triple.encode()).digest()[0] % _PARTS == 0


def training_scenes() -> list[Scene]:
    return [scene for scene in every_scene() if not is_held_out(scene)]


def held_out_scenes(count: int, *, seed: int) -> list[Scene]:
    """So many of them, no scene twice."""
    scenes = [scene for scene in every_scene() if is_held_out(scene)]
    return random.Random(seed).sample(scenes, count)
