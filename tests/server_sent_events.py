"""Reads a stream of Server-Sent Events as the WHATWG specification says that a browser does."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    name: str
    data: Any  # what its JSON says
    id: str


def blocks_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """What stands between two empty lines: an event, or a comment. One cut short is dropped."""
    text = ""
    for chunk in chunks:
        text += chunk.decode()
        *whole, text = text.split("\n\n")
        yield from whole


def events_of(chunks: Iterable[bytes]) -> Iterator[Event]:
    last_id = ""
    for block in blocks_of(chunks):
        name, data = "message", []
        for line in re.split(r"\r\n|\n|\r", block):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case "id":
                    last_id = value
        if data:
            yield Event(name, json.loads("\n".join(data)), last_id)


def lines_of(events: Iterable[Event]) -> list[str]:
    return [event.data["line"] for event in events if event.name == "log"]
