"""When requests of an open loop are due: fixed ahead, whatever becomes of those before."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Due:
    """A request, in seconds from the beginning."""

    at_seconds: float
    is_warm_up: bool


def arrivals(rate_per_second: float, *, seconds: float, warm_up_seconds: float) -> Sequence[Due]:
    """Evenly spaced, so that every service meets the same; those of the warm-up come first."""
    count = round(rate_per_second * (warm_up_seconds + seconds))
    moments = (number / rate_per_second for number in range(count))
    return [Due(moment, moment < warm_up_seconds) for moment in moments]


@dataclass(frozen=True)
class Sent:
    """One request of an open loop, and what came of it. Seconds from the beginning."""

    due: Due
    sent_at_seconds: float
    answered_at_seconds: float
    accepted: bool
    broken: bool = False

    @property
    def latency_seconds(self) -> float:
        """From when it was due, not from when it was sent: a client that is kept waiting waits, too."""
        return self.answered_at_seconds - self.due.at_seconds

    @property
    def late_seconds(self) -> float:
        """What the generator itself is to blame for."""
        return self.sent_at_seconds - self.due.at_seconds


def accepted_per_second(sent: Sequence[Sent], *, seconds: float) -> float:
    """Of those that were measured, in the seconds they were due in, or until the last one was answered."""
    measured = [each for each in sent if not each.due.is_warm_up]
    accepted = [each for each in measured if each.accepted]
    if not accepted:
        return 0.0
    began_at = measured[0].due.at_seconds
    took = max(each.answered_at_seconds for each in accepted) - began_at
    return len(accepted) / max(took, seconds)
