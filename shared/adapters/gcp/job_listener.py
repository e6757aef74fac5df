"""Hearing at once that a document has changed, over Firestore's listen stream.

Google's own listener (``on_snapshot``) is not used: while the server is away it opens its stream
again without a pause, one busy core for each, in a thread that cannot be stopped then. Here the
thread that waits reads the stream itself, and there is nothing to leave behind.
"""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing

from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import Client
from google.cloud.firestore_v1.types import ListenRequest, Target

from shared.errors import StoreUnavailable

# A channel carries about a hundred calls at once. A stream is one of them for as long as it is
# open, and the calls beyond would wait for one to end.
_MAX_STREAMS = 64
_STREAM_SECONDS = 30.0
_POLL_SECONDS = 1.0

_TARGET = 1
_CHANGES = ("document_change", "document_delete", "document_remove")


class Listeners:
    """As many streams as one channel carries; the watches beyond poll."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._free = threading.BoundedSemaphore(_MAX_STREAMS)
        self._closed = False

    def worth_a_look(self, document: str, *, deadline: float) -> Generator[None, None, None]:
        """Yields when the document may have changed: once at first, and at the deadline too.

        ``document`` is the full name, ``deadline`` of ``time.monotonic``.
        """
        while (left := deadline - time.monotonic()) > 0 and not self._closed:
            started = time.monotonic()
            if self._free.acquire(blocking=False):
                try:
                    with closing(self._stream(document, min(left, _STREAM_SECONDS))) as changes:
                        yield from changes
                finally:
                    self._free.release()
            if self._closed:
                raise StoreUnavailable("the job store is closed")
            # However the stream has ended, something may have been missed. Where streams end at
            # once, or none is free, this is the pace.
            pause = min(started + _POLL_SECONDS, deadline) - time.monotonic()
            time.sleep(max(0.0, pause))
            yield

    def close(self) -> None:
        """The watches end as soon as the channel is closed too."""
        self._closed = True

    def _stream(self, document: str, seconds: float) -> Generator[None, None, None]:
        """Yields at each change until the stream ends, whatever ends it."""
        database, _, _ = document.partition("/documents/")
        target = Target(documents=Target.DocumentsTarget(documents=[document]), target_id=_TARGET)
        over = threading.Event()

        def requests() -> Iterator[ListenRequest]:
            yield ListenRequest(database=database, add_target=target)
            over.wait()  # The stream ends with its requests.

        stream = None
        try:
            stream = self._client._firestore_api.listen(  # noqa: SLF001 - the channel of all calls
                requests=requests(),
                timeout=seconds,
                retry=None,
                metadata=self._client._rpc_metadata,  # noqa: SLF001 - it names the database
            )
            for response in stream:
                if any(change in response for change in _CHANGES):
                    yield
        except (GoogleAPIError, GoogleAuthError):
            return  # Whoever looks now will be told what is wrong.
        finally:
            over.set()
            if stream is not None:
                stream.cancel()
