"""What repeated measurements come to, and how one service's compare with another's."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from figures import percentile

# Closer than this, neither leads: the same service differs as much from run to run.
TIE = 0.05


@dataclass(frozen=True)
class Spread:
    """One figure of one service."""

    value: float  # a median, or a percentile of everything measured
    least: float
    most: float
    n: int  # how many were measured


def of_values(values: Sequence[float]) -> Spread:
    """Their median, and what lies furthest from it."""
    return Spread(median(values), min(values), max(values), len(values))


def of_rounds(rounds: Sequence[Sequence[float]], percent: float) -> Spread:
    """A percentile of all rounds together; least and most are those of single rounds."""
    together = [value for each in rounds for value in each]
    single = [percentile(each, percent) for each in rounds if each]
    return Spread(percentile(together, percent), min(single), max(single), len(together))


def ratio(theirs: Spread, ours: Spread) -> float | None:
    """How many times ours it is; None: ours is nothing."""
    return theirs.value / ours.value if ours.value else None


def leads(mine: Spread, others: Sequence[Spread], *, less_is_better: bool) -> bool:
    """No other one is better by more than a tie."""
    if less_is_better:
        return all(mine.value <= other.value * (1 + TIE) for other in others)
    return all(mine.value >= other.value * (1 - TIE) for other in others)
