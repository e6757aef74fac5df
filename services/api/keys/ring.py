"""The keys as the API asks for them: who is it, whatever becomes of the document meanwhile."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from services.api.keys.document import ApiKey, opens, presented
from services.api.keys.sources import KeySource
from shared.errors import KeysUnavailable, Unauthenticated

# A source that cannot tell whether it has changed is looked at this often.
_REFRESH_SECONDS = 30.0
_RETRY_SECONDS = 5.0
# A use that follows another one within this time is not noted.
_NOTED_EVERY = timedelta(minutes=10)
# Keys that were read are good for so long without their source; a revoked one opens no longer than that.
_TRUSTED_SECONDS = 15 * 60.0

log = structlog.get_logger("promptreel.keys")


@dataclass(frozen=True)
class _Known:
    """Put there at once: who finds the version finds its keys."""

    keys: Mapping[str, ApiKey]
    version: object


class KeyRing:
    """For many threads. A key that is added, revoked or expires counts as that without a restart."""

    def __init__(
        self,
        source: KeySource,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ``ConfigurationError`` when the keys cannot be read."""
        self._source = source
        self._now = now
        self._clock = clock
        self._loading = threading.Lock()
        self._known = _Known({}, None)
        self._noted: dict[str, datetime] = {}
        self._read_at = self._look_at = 0.0
        self._read()

    def key_of(self, authorization: str | None) -> ApiKey:
        """The key that an ``Authorization`` header carries.

        Raises ``Unauthenticated``, ``ConfigurationError`` and ``KeysUnavailable``.
        """
        key_id, secret = presented(authorization) or ("", "")
        known = self._current().get(key_id)
        # One that is not there is compared too: the time it takes tells nobody which ids exist.
        if not opens(known, secret) or known is None or not known.counts(self._now()):
            raise Unauthenticated
        return known

    def is_use_worth_noting(self, key_id: str, now: datetime) -> bool:
        """Now and then: what is asked for is when a key was used last, not how often."""
        last = self._noted.get(key_id)
        if last is not None and now - last < _NOTED_EVERY:
            return False
        self._noted[key_id] = now
        return True

    def _current(self) -> Mapping[str, ApiKey]:
        now = self._clock()
        too_old = now >= self._read_at + _TRUSTED_SECONDS
        if self._is_changed():
            # A file that has gone or is broken opens no door: nobody's key counts until it is back.
            with self._loading:
                if self._is_changed():
                    self._read()
        elif (now >= self._look_at or too_old) and self._loading.acquire(blocking=too_old):
            # One thread looks; the others go on with the keys there are, unless those are too old.
            try:
                self._look()
            finally:
                self._loading.release()
        return self._known.keys

    def _is_changed(self) -> bool:
        return self._source.version() != self._known.version

    def _look(self) -> None:
        now = self._clock()
        if now < self._look_at:
            return  # Somebody has just done it.
        try:
            self._read()
        except KeysUnavailable as error:
            self._look_at = now + _RETRY_SECONDS
            if now >= self._read_at + _TRUSTED_SECONDS:
                raise
            log.warning("keys not read anew", reason=error.message)

    def _read(self) -> None:
        version = self._source.version()  # before it: what comes in between is read once more
        self._known = _Known({key.id: key for key in self._source.load().keys}, version)
        self._read_at = self._clock()
        self._look_at = self._read_at + _REFRESH_SECONDS
