"""Server-Sent Events, as the WHATWG has them: bytes to lines, lines to events.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import codecs
import re
from dataclasses import dataclass, replace

_LINE_END = re.compile(r"\r\n|\r|\n")
_DEFAULT_EVENT = "message"


@dataclass(frozen=True)
class SentEvent:
    event: str
    data: str
    id: str  # the newest that was sent, perhaps with an earlier event


@dataclass(frozen=True)
class Unfinished:
    """What the lines since the last event have said."""

    event: str = ""
    data: tuple[str, ...] = ()
    id: str = ""
    retry_seconds: float | None = None


def take_line(so_far: Unfinished, line: str) -> tuple[Unfinished, SentEvent | None]:
    """What is known after one more line, and the event that it ends."""
    if not line:
        # Without data there is no event; an id that came with none counts all the same.
        done = SentEvent(so_far.event or _DEFAULT_EVENT, "\n".join(so_far.data), so_far.id)
        return replace(so_far, event="", data=()), done if so_far.data else None
    name, _, value = line.partition(":")
    return _with_field(so_far, name, value.removeprefix(" ")), None


def _with_field(so_far: Unfinished, name: str, value: str) -> Unfinished:
    """A line that begins with a colon is a comment: its name is empty, like one nobody knows."""
    match name:
        case "event":
            return replace(so_far, event=value)
        case "data":
            return replace(so_far, data=(*so_far.data, value))
        case "id" if "\0" not in value:
            return replace(so_far, id=value)
        case "retry" if value.isascii() and value.isdigit():
            return replace(so_far, retry_seconds=int(value) / 1000)
        case _:
            return so_far


class LineReader:
    """Bytes come as they please, lines leave whole; what no line end follows is no line."""

    def __init__(self) -> None:
        # It drops the byte order mark that a stream may begin with.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest = ""
        self._after_cr = False

    def take(self, chunk: bytes) -> list[str]:
        text = self._decoder.decode(chunk)
        if text and self._after_cr:
            # The line ended at the CR; an LF now is the other half of its end.
            text = text.removeprefix("\n")
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        *lines, self._rest = _LINE_END.split(self._rest + text)
        return lines


class EventReader:
    """The events of one connection."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._so_far = Unfinished()

    @property
    def retry_seconds(self) -> float | None:
        """How long the server wants a client to wait before it connects again."""
        return self._so_far.retry_seconds

    def take(self, chunk: bytes) -> list[SentEvent]:
        events = []
        for line in self._lines.take(chunk):
            self._so_far, event = take_line(self._so_far, line)
            if event is not None:
                events.append(event)
        return events
