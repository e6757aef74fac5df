"""A clock that tests can stop."""

from datetime import UTC, datetime


class Clock:
    """The time, unless it was stopped at a moment."""

    def __init__(self) -> None:
        self._stopped_at: datetime | None = None

    def __call__(self) -> datetime:
        return self._stopped_at or datetime.now(UTC)

    def stop_at(self, moment: datetime) -> None:
        self._stopped_at = moment
