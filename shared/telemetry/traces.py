"""Traces: which part of a job took how long, in whichever process, below one trace id.

Kept by OpenTelemetry where the configuration says so (``exporting.py``). Else a span is a trace
context to hand on, and nothing more: nothing is imported, and no thread runs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Literal

from shared.errors import PromptreelError
from shared.telemetry.trace_context import continue_trace

SpanKind = Literal["internal", "server", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool | None]

NO_ATTRIBUTES: Attributes = MappingProxyType({})


class Span:
    """One piece of work, from ``Traces.begin`` to ``end``. This one is kept nowhere."""

    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent  # what is begun for it, wherever, is below it

    def note(self, attributes: Attributes) -> None:
        """Say more of it. Only what ``exporting.py`` knows is kept."""

    def fail(self, code: str) -> None:
        """It went wrong: an error's code, never its message."""

    def end(self) -> None:
        """It is over; to be called once more does nothing."""


class Traces:
    """The spans of one process. These are kept nowhere, but every trace is continued."""

    def begin(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = "internal",  # noqa: ARG002 - for those who keep it
        attributes: Attributes = NO_ATTRIBUTES,  # noqa: ARG002 - see above
        began_at_ns: int | None = None,  # noqa: ARG002 - see above
    ) -> Span:
        """A span below another one, whose ``traceparent`` is the parent; without one, a new trace.

        It has begun now, or at that moment, in nanoseconds since 1970.
        """
        del name
        return Span(continue_trace(parent))

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None,
        kind: SpanKind = "internal",
        attributes: Attributes = NO_ATTRIBUTES,
    ) -> Iterator[Span]:
        """A span as long as the block; what leaves the block as an error is told by its code."""
        span = self.begin(name, parent=parent, kind=kind, attributes=attributes)
        try:
            yield span
        except PromptreelError as error:
            span.fail(error.code)
            raise
        except BaseException as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    def close(self) -> None:
        """Send what is left; nothing is kept any more."""
