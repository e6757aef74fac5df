"""Shapes of pictures as providers name them, "16:9"."""

from collections.abc import Sequence
from math import log


def nearest_aspect_ratio(width: int, height: int, offered: Sequence[str]) -> str:
    """Of those on offer, the one that cuts least of a picture of this size."""

    def distance(name: str) -> float:
        # In logarithms: twice as wide is as far away as half as wide.
        across, down = map(int, name.split(":"))
        return abs(log(width / height) - log(across / down))

    return min(offered, key=distance)
