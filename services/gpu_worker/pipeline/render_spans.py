"""One render's stages, as spans below the order's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shared.telemetry import Attributes, Traces


class RenderSpans:
    """Two threads may follow each other in it, and segments be made side by side."""

    def __init__(self, traces: Traces, parent: str | None, attributes: Attributes) -> None:
        self._traces = traces
        self._whole = traces.begin("render process", parent=parent, attributes=attributes)
        self._within = self._whole

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What is told meanwhile is below it. One phase at a time."""
        with self._traces.span(name, parent=self._whole.traceparent) as span:
            self._within = span
            try:
                yield
            finally:
                self._within = self._whole

    def laps(self, attributes: Attributes) -> "Laps":
        """For what reports only that it is done with something."""
        return Laps(self, attributes)

    def tell(self, name: str, *, began_at_ns: int, attributes: Attributes) -> None:
        """A stage that has ended now."""
        self._traces.begin(
            name,
            parent=self._within.traceparent,
            attributes=attributes,
            began_at_ns=began_at_ns,
        ).end()

    def end(self, failure: str | None = None) -> None:
        """The render is over; a failure is told by its code."""
        if failure is not None:
            self._whole.fail(failure)
        self._whole.end()


class Laps:
    """Stages that follow each other, each beginning where the one before has ended."""

    def __init__(self, spans: RenderSpans, attributes: Attributes) -> None:
        self._spans = spans
        self._attributes = attributes
        self._since_ns = time.time_ns()

    def restart(self) -> None:
        """What has passed since the last one belongs to none."""
        self._since_ns = time.time_ns()

    def tell(self, name: str, attributes: Attributes | None = None) -> None:
        """A stage has ended now."""
        since, self._since_ns = self._since_ns, time.time_ns()
        told = {**self._attributes, **(attributes or {})}
        self._spans.tell(name, began_at_ns=since, attributes=told)


def untold() -> RenderSpans:
    """Of a render that nobody follows."""
    return RenderSpans(Traces(), None, {})
