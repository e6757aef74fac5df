"""When jobs come: by chance, more by day than by night, some of them many at once."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOUR = 3600.0
DAY = 24 * HOUR
_GRID = 4096


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Jobs an hour on average over a day that begins in its quietest hour."""

    per_hour: float
    swing: float = 0.0  # 0.6: at noon 1.6 times the average, at night 0.4 times
    burst_share: float = 0.0  # of all jobs, those that come many at once
    burst_size: int = 1
    day_seconds: float = DAY

    @property
    def peak_per_hour(self) -> float:
        """At noon, averaged over bursts."""
        return self.per_hour * (1 + self.swing)

    def times(self, span_seconds: float, seed: int) -> list[float]:
        """Seconds, in order, of a Poisson process with this shape; bursts come as one moment."""
        generator = np.random.default_rng(seed)
        expected = self.per_hour * span_seconds / HOUR
        bursts = expected * self.burst_share / self.burst_size
        singles = self._moments(generator, expected * (1 - self.burst_share), span_seconds)
        together = np.repeat(self._moments(generator, bursts, span_seconds), self.burst_size)
        found: list[float] = np.sort(np.concatenate([singles, together])).tolist()
        return found

    def _moments(
        self, generator: np.random.Generator, expected: float, span_seconds: float
    ) -> NDArray[np.float64]:
        """So many in the span as chance has it, spread as the day is."""
        grid = np.linspace(0.0, span_seconds, _GRID)
        turn = 2 * math.pi / self.day_seconds
        share = grid - self.swing * np.sin(turn * grid) / turn  # the integral of 1 - swing * cos
        return np.interp(generator.random(generator.poisson(expected)), share / share[-1], grid)
