"""How fast the jobs of each model end, as whoever waits is told: counted once a second, not once a poll."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.admission import PACE_WINDOW
from shared.ports import JobStore

# In a store over a network each count is a round trip, and of ten minutes a second makes no difference.
_GOOD_FOR = timedelta(seconds=1)


@dataclass(frozen=True)
class _Pace:
    ended: int
    counted_at: datetime


class Paces:
    """For many threads: those that come when a count is too old may count it twice."""

    def __init__(self, store: JobStore, *, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._by_model: dict[str, _Pace] = {}

    def ended(self, model: str) -> int:
        """How many of a model's jobs have ended within ``PACE_WINDOW``."""
        now, known = self._now(), self._by_model.get(model)
        if known is None or not now - _GOOD_FOR < known.counted_at <= now:
            known = _Pace(self._store.ended_since(now - PACE_WINDOW, model=model), now)
            self._by_model[model] = known
        return known.ended
