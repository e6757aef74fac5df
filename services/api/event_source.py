"""Server-Sent Events: how one is written down (html.spec.whatwg.org, "Server-sent events")."""

import re

CONTENT_TYPE = "text/event-stream"
# A comment: it tells proxies that the stream lives, and the server when nobody reads it any more.
ALIVE = b": alive\n\n"

# What ends a line for a reader of events, and nothing else does: a line separator is text.
_LINE_BREAK = re.compile(r"\r\n|\n|\r")


def event(name: str, data: str, *, number: int) -> bytes:
    """An event; after ``number`` a reader goes on that has lost its connection."""
    lines = "".join(f"data: {line}\n" for line in _LINE_BREAK.split(data))
    return f"event: {name}\nid: {number}\n{lines}\n".encode()
