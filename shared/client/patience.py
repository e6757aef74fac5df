"""Whether a call that failed is worth another try, and when."""

from shared.client.errors import ApiError, BrokenDownload, CannotReach, ClientError

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
# Limits, and what a server or the proxy before it says while it starts.
_PASSING = (429, 502, 503, 504)


class Patience:
    """So many tries, and no more seconds of pauses than this; what is asked must be repeatable."""

    def __init__(self, *, tries: int, seconds: float) -> None:
        self._tries = tries
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Something came of it: what fails from now on is another failure."""
        self._failures = 0
        self._waited = 0.0

    def pause_after(self, error: ClientError) -> float:
        """Seconds to the next try. Raises the error when there shall be none."""
        self._failures += 1
        if self._failures >= self._tries or not _passes(error):
            raise error
        pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** (self._failures - 1), _LONGEST_PAUSE_SECONDS)
        if isinstance(error, ApiError):
            pause = max(pause, error.retry_after_seconds or 0.0)
        if self._waited + pause > self._seconds:
            raise error  # it would come too early, whatever was asked
        self._waited += pause
        return pause


def _passes(error: ClientError) -> bool:
    if isinstance(error, ApiError):
        return error.status in _PASSING
    return isinstance(error, (CannotReach, BrokenDownload))
