"""Clips that Veo wrote into a bucket of Cloud Storage: read, and left where they are.

Google's client reads ``STORAGE_EMULATOR_HOST``: with it set, another server is spoken to.
"""

# mypy: disable-error-code="no-untyped-call, import-untyped"
# Google's storage client ships no types, google-auth half of them.

from http import HTTPStatus
from types import TracebackType
from typing import Self

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage import Client
from google.cloud.storage.blob import Blob
from google.cloud.storage.exceptions import DataCorruption

from services.gpu_worker.backends.veo import is_mp4
from shared import config_sections
from shared.adapters.vertex.connection import service_account
from shared.adapters.vertex.retries import Failure, MalformedAnswer, Patience
from shared.errors import BackendUnavailable, ModelUnavailable

# OSError: every error of requests is one. ValueError: a URI that names no object.
_EXPECTED = (
    GoogleAPICallError,
    GoogleAuthError,
    DataCorruption,
    MalformedAnswer,
    OSError,
    ValueError,
)

_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_AGAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)


class ClipStorage:
    """A connection to Cloud Storage, closed at the end of its ``with`` block. One thread at a time."""

    def __init__(self, section: config_sections.Vertex) -> None:
        """Raises ``ModelUnavailable`` when there are no credentials."""
        self._timeout_seconds = section.request_seconds
        client = _connected(section)
        if isinstance(client, Failure):
            raise client.error
        self._client = client

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

    def read(self, uri: str, patience: Patience) -> bytes:
        """The clip at ``gs://…``, whole and with the checksum it was stored with.

        Raises ``ModelUnavailable`` and, when it may work later, ``BackendUnavailable``.
        """
        return patience.until_answered(lambda: self._attempt(uri))

    def _attempt(self, uri: str) -> bytes | Failure:
        try:
            blob = Blob.from_uri(uri, client=self._client)
            # Not Google's own retries: nobody could stop them.
            content = blob.download_as_bytes(retry=None, timeout=self._timeout_seconds)
            if not is_mp4(content):
                raise MalformedAnswer
        except _EXPECTED as error:
            return _judge(error)
        return bytes(content)


def _connected(section: config_sections.Vertex) -> Client | Failure:
    credentials = service_account(section.credentials_file)
    try:
        return Client(project=section.project, credentials=credentials)
    except (GoogleAuthError, OSError, ValueError):
        return Failure(_who_reads("There are no credentials that can be used"))


def _judge(error: Exception) -> Failure:
    """No more than the kind of error is passed on: its text names the bucket, and perhaps a token."""
    match error:
        case GoogleAPICallError():
            return _refusal(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        case TransportError() | GoogleAuthError(retryable=True):
            return _again("Google gives no token at the moment.")
        case GoogleAuthError():
            return Failure(_who_reads("Google gives no token to who reads the clips"))
        case OSError():
            return _again(f"Cloud Storage cannot be reached ({type(error).__name__}).")
        case _:
            why = f"The clip in the bucket cannot be used ({type(error).__name__})."
            return Failure(BackendUnavailable(why), ask_again=True, malformed=True)


def _refusal(code: int) -> Failure:
    if code in _REFUSED:
        return Failure(_who_reads(f"Cloud Storage refuses who reads the clips ({code})"))
    if code in _AGAIN or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _again(f"Cloud Storage failed ({code}).")
    return Failure(
        ModelUnavailable(
            f"The clip that Veo made cannot be read from its bucket ({code}): check "
            "vertex.output_gcs_uri, and that nothing removes files there at once."
        )
    )


def _again(message: str) -> Failure:
    return Failure(BackendUnavailable(message), ask_again=True)


def _who_reads(problem: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{problem}: check vertex.credentials_file and vertex.output_gcs_uri; the account needs the "
        "role roles/storage.objectViewer on the bucket."
    )
