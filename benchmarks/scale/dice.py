"""Chance from a seed: the same seed, the same run, to the last digit."""

import math

import numpy as np

_BLOCK = 4096


class Dice:
    """Drawn in blocks: numpy takes as long for one number as for a hundred."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._left: list[float] = []

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._next()

    def waiting_time(self, mean: float) -> float:
        """Exponential; never, where the mean is infinite."""
        return math.inf if math.isinf(mean) else -mean * math.log1p(-self._next())

    def _next(self) -> float:
        if not self._left:
            self._left = self._generator.random(_BLOCK).tolist()
        return self._left.pop()
