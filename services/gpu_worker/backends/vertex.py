"""Vertex AI: who asks, how long to wait for it, and how often to ask again.

What its errors mean is in ``vertex_errors.py``; what is asked, in ``veo.py`` and ``gemini.py``.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from shared.errors import ModelUnavailable, PromptreelError

if TYPE_CHECKING:
    from google.genai import Client
    from google.oauth2.service_account import Credentials

    from services.gpu_worker.backends.vertex_errors import Failure

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]

Answer = TypeVar("Answer")


class MalformedAnswer(Exception):
    """Control flow: Vertex AI said yes and not what it was asked for. ``Vertex.call`` asks again."""


@dataclass(frozen=True, kw_only=True)
class VertexAccess:
    """Where Vertex AI is and as whom to ask it. Its ``repr`` is safe to log."""

    project: str | None = None
    location: str = "us-central1"
    api_key: str | None = field(default=None, repr=False)  # instead of project and credentials
    credentials_file: Path | None = field(default=None, repr=False)  # None: the environment's own
    base_url: str | None = None  # None: Google's
    timeout_seconds: float = 120.0  # of one request


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often one question is asked again, and how long to wait before."""

    max_retries: int = 3
    # An answer that cannot be used was paid for.
    max_malformed_retries: int = 1
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 60.0

    def pause_seconds(
        self, failure: "Failure", *, retries: int, malformed: int, dice: float
    ) -> float | None:
        """None: give up. ``dice`` is 0 to 1; whoever names a time is never asked before it."""
        if not failure.ask_again or retries >= self.max_retries:
            return None
        if failure.malformed and malformed > self.max_malformed_retries:
            return None
        grown = min(self.first_pause_seconds * 2.0**retries, self.longest_pause_seconds)
        # Half of it by chance, so that those who failed together do not come back together.
        pause = grown * (1 + dice) / 2
        if failure.retry_after_seconds is None:
            return pause
        if failure.retry_after_seconds > self.longest_pause_seconds:
            return None
        return max(pause, failure.retry_after_seconds)


class Vertex:
    """A connection to Vertex AI, closed at the end of its ``with`` block. One thread at a time."""

    def __init__(
        self,
        access: VertexAccess,
        *,
        retries: RetryPolicy | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = time.sleep,
        dice: Callable[[], float] = random.random,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``tell`` hears of each retry, in a line without prompt or key.

        What ``sleep`` and ``tell`` raise reaches the caller, so that either can stop a render.
        Raises ``ModelUnavailable`` when nobody could be asked as configured.
        """
        self._retries = retries or RetryPolicy()
        self._clock = clock
        self._sleep = sleep
        self._dice = dice
        self._tell = tell
        # Ours, so that it is closed for certain and its errors are of one kind whatever is installed.
        self._http = httpx.Client()
        try:
            self._client = _connect(access, self._http)
        except BaseException:
            self._http.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()
        self._http.close()

    def call(self, ask: Callable[["Client"], Answer], *, missing: PromptreelError) -> Answer:
        """The answer; ``missing`` is raised when what is asked for is not there (404).

        ``ask`` may run again: an answer that got lost may have been paid for, and nothing in the API
        tells. Raises ``PromptRefused``, ``ModelUnavailable`` and, when it may work later,
        ``BackendUnavailable``.
        """
        retries = malformed = 0
        while True:
            answer, failure = self._attempt(ask, missing)
            if failure is None:
                # Nothing failed, so there is an answer, though it may be None.
                return answer  # type: ignore[return-value]
            malformed += failure.malformed
            pause = self._retries.pause_seconds(
                failure, retries=retries, malformed=malformed, dice=self._dice()
            )
            if pause is None:
                # Raised here, outside of any ``except``: Google's own error quotes the request, and
                # would be printed as the context of ours.
                raise failure.error
            retries += 1
            self._tell(f"{failure.error.message} Asking again in {pause:.0f} s.")
            self._sleep(pause)

    def _attempt(
        self, ask: Callable[["Client"], Answer], missing: PromptreelError
    ) -> "tuple[Answer | None, Failure | None]":
        # Importing it takes a second, and connecting has done it.
        from services.gpu_worker.backends.vertex_errors import EXPECTED, judge  # noqa: PLC0415

        try:
            return ask(self._client), None
        except EXPECTED as error:
            return None, judge(error, missing=missing, now=self._clock())


def _connect(access: VertexAccess, http: httpx.Client) -> "Client":
    if not access.project and not access.api_key:
        raise ModelUnavailable(
            "Nobody is named who asks Vertex AI: set vertex.project, or vertex.api_key."
        )
    try:
        from google import genai  # noqa: PLC0415 - takes a second
    except ImportError:
        raise ModelUnavailable(
            "This model renders on Vertex AI: install promptreel[remote]."
        ) from None
    options = genai.types.HttpOptions(
        base_url=access.base_url,
        timeout=round(access.timeout_seconds * 1000),
        httpx_client=http,
    )
    if access.api_key:
        return genai.Client(vertexai=True, api_key=access.api_key, http_options=options)
    return genai.Client(
        vertexai=True,
        project=access.project,
        location=access.location,
        credentials=_credentials(access.credentials_file),
        http_options=options,
    )


def _credentials(file: Path | None) -> "Credentials | None":
    if file is None:
        return None
    from google.oauth2.service_account import Credentials  # noqa: PLC0415 - beside genai

    try:
        return Credentials.from_service_account_file(  # type: ignore[no-any-return, no-untyped-call] # google-auth's
            str(file), scopes=_SCOPES
        )
    except (OSError, ValueError):
        pass
    raise ModelUnavailable("The service account's key cannot be read: see vertex.credentials_file.")
