"""How often somebody may ask, by key and by address. Counted in this process, over the last minute."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from shared.config_sections import Limits
from shared.errors import TooManyRequests


class Rates:
    """For many threads. What is refused is not counted: who waits as told gets in again."""

    def __init__(self, limits: Limits) -> None:
        self._windows = MovingWindowRateLimiter(MemoryStorage())
        self._of_key = _a_minute(limits.requests_per_minute_per_key)
        self._of_address = _a_minute(limits.requests_per_minute_per_address)
        self._wrong_keys = _a_minute(limits.wrong_keys_per_minute_per_address)

    def asked(self, key_id: str, address: str) -> None:
        """Raises ``TooManyRequests``."""
        self._count(self._of_address, "address", address)
        self._count(self._of_key, "key", key_id)

    def asked_with_a_wrong_key(self, address: str) -> None:
        """Raises ``TooManyRequests``: then whoever it is learns nothing more about its keys."""
        self._count(self._wrong_keys, "wrong", address)

    def _count(self, limit: RateLimitItemPerMinute | None, kind: str, who: str) -> None:
        if limit is None or self._windows.hit(limit, kind, who):
            return
        reset_at = self._windows.get_window_stats(limit, kind, who).reset_time
        raise TooManyRequests(retry_after_seconds=max(1, math.ceil(reset_at - time.time())))


def _a_minute(count: int | None) -> RateLimitItemPerMinute | None:
    return None if count is None else RateLimitItemPerMinute(count)
