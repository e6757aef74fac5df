"""Simulated time: whatever is planned happens in order, and no real second passes."""

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Of two things planned for one moment, the one planned first comes first: no chance is in it."""

    __slots__ = ("_heap", "_planned", "now")

    def __init__(self) -> None:
        self.now = 0.0  # seconds
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def at(self, moment: float, act: Callable[..., None], *arguments: object) -> None:
        self._planned += 1
        heapq.heappush(self._heap, (moment, self._planned, act, arguments))

    def after(self, seconds: float, act: Callable[..., None], *arguments: object) -> None:
        self._planned += 1
        heapq.heappush(self._heap, (self.now + seconds, self._planned, act, arguments))

    def run(self, *, until: float) -> None:
        """To this moment; what is planned for later stays planned."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            self.now, _, act, arguments = pop(heap)
            act(*arguments)
        self.now = until
