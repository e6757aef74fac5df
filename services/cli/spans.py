"""Spans of time, as people write them on a command line."""

import re
from datetime import timedelta

from services.cli.exits import EXIT_USAGE, CommandFailed

_SPAN = re.compile(r"(\d{1,6})([dhm])")
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def span(said: str) -> timedelta:
    """Raises ``CommandFailed``."""
    match = _SPAN.fullmatch(said)
    if match is None:
        raise CommandFailed(f"{said} is no span of time. Give 90d, 12h or 30m.", EXIT_USAGE)
    return int(match[1]) * _UNITS[match[2]]
