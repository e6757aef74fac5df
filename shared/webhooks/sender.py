"""How a webhook leaves the house: the port that a courier sends through."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a receiver said."""

    status: int  # of HTTP
    retry_after: timedelta | None = None


class NoAnswer(Exception):
    """Nobody could be asked, or nobody answered in time; it says which, and nothing of the URL."""


class Sender(Protocol):
    def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send it once. Redirects are not followed. Raises ``NoAnswer``."""
