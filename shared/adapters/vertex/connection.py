"""Vertex AI: who asks, how long to wait for it, and how often to ask again.

What its errors mean is in ``errors.py``; what is asked, in ``gemini.py`` and in the worker's ``veo.py``.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from shared import config_sections
from shared.adapters.vertex.retries import Answer, Failure, Patience, RetryPolicy
from shared.errors import ModelUnavailable, PromptreelError
from shared.secret_file import secret_in

if TYPE_CHECKING:
    from google.genai import Client
    from google.oauth2.service_account import Credentials

_SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


@dataclass(frozen=True, kw_only=True)
class VertexAccess:
    """Where Vertex AI is and as whom to ask it. Its ``repr`` is safe to log."""

    project: str | None = None
    location: str = "us-central1"
    api_key: str | None = field(default=None, repr=False)  # instead of project and credentials
    credentials_file: Path | None = field(default=None, repr=False)  # None: the environment's own
    base_url: str | None = None  # None: Google's
    timeout_seconds: float = 120.0  # of one request


def access_of(section: config_sections.Vertex) -> VertexAccess:
    """As the configuration says. Raises ``ModelUnavailable`` when its API key cannot be read."""
    return VertexAccess(
        project=section.project,
        location=section.location,
        api_key=_api_key(section.api_key_file),
        credentials_file=section.credentials_file,
        base_url=section.base_url,
        timeout_seconds=section.request_seconds,
    )


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
        self._clock = clock
        self._patience = Patience(
            retries=retries or RetryPolicy(), sleep=sleep, tell=tell, dice=dice
        )
        # Ours, so that it is closed for certain and its errors are of one kind whatever is installed.
        self._http = httpx.Client()
        try:
            self._client = _connect(access, self._http)
        except BaseException:
            self._http.close()
            raise

    @classmethod
    def of(
        cls,
        section: config_sections.Vertex,
        *,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Self:
        """As the configuration says. Raises ``ModelUnavailable`` as the constructor does."""
        retries = RetryPolicy(max_retries=section.max_retries)
        return cls(access_of(section), retries=retries, sleep=sleep, tell=tell)

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
        return self._patience.until_answered(lambda: self._attempt(ask, missing))

    def _attempt(
        self, ask: Callable[["Client"], Answer], missing: PromptreelError
    ) -> Answer | Failure:
        # Importing it takes a second, and connecting has done it.
        from shared.adapters.vertex.errors import EXPECTED, judge  # noqa: PLC0415

        try:
            return ask(self._client)
        except EXPECTED as error:
            return judge(error, missing=missing, now=self._clock())


def _connect(access: VertexAccess, http: httpx.Client) -> "Client":
    if not access.project and not access.api_key:
        raise ModelUnavailable(
            "Nobody is named who asks Vertex AI: set vertex.project, or vertex.api_key_file."
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
        credentials=service_account(access.credentials_file),
        http_options=options,
    )


def service_account(file: Path | None) -> "Credentials | None":
    """What a key file says; None: the environment's own. Raises ``ModelUnavailable``."""
    if file is None:
        return None
    from google.oauth2.service_account import Credentials  # noqa: PLC0415 - beside genai

    with suppress(OSError, ValueError):
        return Credentials.from_service_account_file(  # type: ignore[no-any-return, no-untyped-call] # google-auth's
            str(file), scopes=_SCOPES
        )
    raise ModelUnavailable("The service account's key cannot be read: see vertex.credentials_file.")


def _api_key(file: Path | None) -> str | None:
    if file is None:
        return None
    if key := secret_in(file):
        return key
    raise ModelUnavailable(
        "The API key cannot be read: vertex.api_key_file must name a file with the key and no more."
    )
