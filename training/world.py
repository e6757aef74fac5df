"""The world that the small model knows: one object, its colour, how it moves, and what is behind it."""

from dataclasses import dataclass
from types import MappingProxyType

WIDTH, HEIGHT = 224, 128  # pixels
FRAMES = 81  # at 16 a second, 5 s
LATENT_STRIDE = 4  # frames that one latent frame becomes
LATENT_FRAMES = (FRAMES - 1) // LATENT_STRIDE + 1

COLOURS = MappingProxyType(
    {
        "red": (220, 35, 40),
        "orange": (250, 135, 25),
        "yellow": (250, 220, 45),
        "green": (45, 180, 65),
        "cyan": (60, 210, 230),
        "blue": (40, 90, 245),
        "purple": (150, 60, 200),
        "pink": (250, 125, 190),
    }
)
BACKGROUNDS = MappingProxyType(
    {
        "black": (14, 14, 16),
        "white": (244, 244, 242),
        "grey": (128, 128, 130),
        "navy": (18, 26, 82),
        "teal": (10, 105, 105),
        "sand": (216, 192, 148),
        "brown": (98, 60, 36),
    }
)
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("left", "right", "up", "down", "bounce", "rotate", "grow", "shrink", "still")


@dataclass(frozen=True, order=True)
class Scene:
    """What a caption says. A circle that rotates is not among them: nobody could tell."""

    colour: str
    shape: str
    motion: str
    background: str


def every_scene() -> list[Scene]:
    """All that can be said and seen, in a fixed order."""
    return [
        Scene(colour, shape, motion, background)
        for colour in COLOURS
        for shape in SHAPES
        for motion in MOTIONS
        for background in BACKGROUNDS
        if (shape, motion) != ("circle", "rotate")
    ]
