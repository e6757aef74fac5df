"""How Firestore is called: how long it is waited for, and what its errors become."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    GoogleAPIError,
    InternalServerError,
    NotFound,
    ResourceExhausted,
    RetryError,
    ServiceUnavailable,
)
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import DocumentReference, DocumentSnapshot

from shared.errors import StoreUnavailable

T = TypeVar("T")
Snapshot: TypeAlias = DocumentSnapshot[DocumentReference]

_CALL_SECONDS = 10.0
_OVERTAKEN_SECONDS = 20.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

# Google's own patience is 60 s for a commit and 300 s for a query. Commits may be repeated here
# because each carries a precondition, and its writer can tell its own write when it meets it.
PATIENCE: dict[str, Any] = {
    "timeout": _CALL_SECONDS,
    "retry": Retry(
        predicate=if_exception_type(
            DeadlineExceeded, InternalServerError, ResourceExhausted, ServiceUnavailable
        ),
        initial=0.1,
        maximum=1.0,
        timeout=_CALL_SECONDS,
    ),
}

# What a commit is refused with when another writer got in between.
_OVERTAKEN = (Aborted, AlreadyExists, FailedPrecondition, NotFound)


def until_not_overtaken(attempt: Callable[[], T]) -> T:
    """Run ``attempt`` anew, a little later each time, while another writer gets in between.

    Raises ``StoreUnavailable`` when that does not end.
    """
    give_up = time.monotonic() + _OVERTAKEN_SECONDS
    longest = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return attempt()
        except _OVERTAKEN as error:
            if time.monotonic() >= give_up:
                message = "too many writers want the same document at once"
                raise StoreUnavailable(message) from error
        time.sleep(random.uniform(0, longest))  # noqa: S311 - it spreads writers, it hides nothing
        longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)


@contextmanager
def unavailable_instead() -> Iterator[None]:
    """Raise ``StoreUnavailable`` in place of Google's errors."""
    try:
        yield
    except (GoogleAPIError, GoogleAuthError) as error:
        cause = error.cause if isinstance(error, RetryError) else error
        # Google's own text stays out of it: it names the project and the document.
        reason = type(cause).__name__
        raise StoreUnavailable(f"the job store cannot be used ({reason})") from error
