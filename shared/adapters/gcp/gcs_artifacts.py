"""The artifact store as objects in a Cloud Storage bucket, with V4 signed links.

Google's client reads ``STORAGE_EMULATOR_HOST``: with it set, another server is spoken to.
"""

# mypy: disable-error-code="no-untyped-call, import-untyped"
# Google's storage client ships no types, google-auth half of them.

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast
from urllib.parse import quote

import google.auth
import google_crc32c
import structlog
from google.api_core.exceptions import (
    GoogleAPICallError,
    GoogleAPIError,
    NotFound,
    PreconditionFailed,
    RetryError,
)
from google.api_core.retry import Retry
from google.auth.exceptions import GoogleAuthError
from google.cloud.storage import Client
from google.cloud.storage.blob import Blob
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from google.oauth2 import service_account

from shared.adapters.gcp.gcs_links import (
    IamSigner,
    KeyFileSigner,
    ServiceAccount,
    Signer,
    object_path,
    signed_url,
)
from shared.complete_file import complete_or_absent
from shared.errors import ArtifactStoreUnavailable, ConfigurationError
from shared.ports import Link, StoredFile

log = structlog.get_logger("promptreel.artifacts")

# "public": so is the bucket, and so are its links.
Signing = Literal["key_file", "iam", "public"]

IAM_URL = "https://iamcredentials.googleapis.com"

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_NAME_BYTES = 1024
# How much of a large upload is sent again after a failure, and held in memory.
_CHUNK_BYTES = 8 * 1024 * 1024
_REQUEST_SECONDS = 60.0
_LINK_SECONDS = 10.0
# An upload may be lost, or the file that was there be removed before it was looked at.
_STARTS = 3
_UPLOAD_LOST = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What will be uploaded, as it was read before."""

    size_bytes: int
    sha256: str
    crc32c: str  # base64, as Cloud Storage writes it


class GcsArtifacts:
    """An ``ArtifactStore``. Raises ``ConfigurationError`` when its credentials cannot be used."""

    def __init__(
        self,
        *,
        bucket: str,
        project: str | None = None,
        credentials_file: Path | None = None,
        signing: Signing = "iam",
        iam_url: str = IAM_URL,
        deadline_seconds: float = 120.0,
    ) -> None:
        """``deadline_seconds``: how long one failing request is tried again."""
        self._deadline_seconds = deadline_seconds
        credentials = _credentials(credentials_file, signing)
        try:
            self._client = Client(project=project, credentials=credentials)
        except GoogleAuthError as error:
            raise _unusable(None, error) from error
        self._bucket = self._client.bucket(bucket)
        self._signer = self._new_signer(credentials, signing, iam_url)

    def put(self, key: str, source: Path, *, content_type: str) -> StoredFile:
        _check_key(key)
        # ValueError: the file became shorter while it was read, or the answer was no JSON.
        with _translated("the file cannot be stored", ValueError), source.open("rb") as file:
            content = _read(file)
            blob = self._create_once(key, file, content, content_type)
            return StoredFile(
                key=key,
                uri=f"gs://{self._bucket.name}/{key}",
                size_bytes=blob.size,
                sha256=self._sha256(blob),
            )

    def keys(self, folder: str) -> Sequence[str]:
        _check_key(folder)
        with _translated("the files cannot be listed"):
            return sorted(blob.name for blob in self._below(folder))

    def fetch(self, key: str, target: Path) -> bool:
        _check_key(key)
        blob = self._bucket.blob(key)
        with _translated("the file cannot be fetched"):
            try:
                with complete_or_absent(target) as partial:
                    # Compared with the checksum that Cloud Storage has of it.
                    blob.download_to_filename(partial, retry=self._retry(), timeout=self._timeout())
            except NotFound:
                return False
        return True

    def link(self, key: str, *, expires_in_seconds: int, now: datetime) -> Link:
        """A signed link lives no longer than its signature surely does: see ``expires_at``."""
        _check_key(key)
        endpoint = self._client.api_endpoint.rstrip("/")
        path = object_path(self._bucket.name, key)
        if self._signer is None:
            return Link(url=f"{endpoint}{path}", expires_at=None)
        seconds = min(expires_in_seconds, self._signer.longest_seconds)
        signed_at = now.replace(microsecond=0)
        with _translated("the link cannot be signed", ValueError, KeyError):
            url = signed_url(endpoint, path, seconds=seconds, now=signed_at, signer=self._signer)
        return Link(url=url, expires_at=signed_at + timedelta(seconds=seconds))

    def delete(self, key: str) -> None:
        _check_key(key)
        with _translated("the file cannot be removed"):
            self._remove(key)

    def delete_all(self, folder: str) -> None:
        _check_key(folder)
        with _translated("the files cannot be removed"):
            for blob in self._below(folder):
                self._remove(blob.name)

    def close(self) -> None:
        self._client.close()
        if self._signer is not None:
            self._signer.close()

    def _new_signer(
        self, credentials: ServiceAccount | None, signing: Signing, iam_url: str
    ) -> Signer | None:
        if signing == "public":
            return None
        if signing == "key_file":
            return KeyFileSigner(cast("service_account.Credentials", credentials))
        retry = self._retry(at_most_seconds=_LINK_SECONDS)
        return IamSigner(cast("ServiceAccount", credentials), iam_url=iam_url, retry=retry)

    def _below(self, folder: str) -> Iterator[Blob]:
        # With the slash: `job_1` is the beginning of `job_10` too.
        yield from self._client.list_blobs(
            self._bucket, prefix=f"{folder}/", retry=self._retry(), timeout=self._timeout()
        )

    def _remove(self, key: str) -> None:
        with suppress(NotFound):
            self._bucket.delete_blob(key, retry=self._retry(), timeout=self._timeout())

    def _create_once(self, key: str, file: BinaryIO, content: _Content, content_type: str) -> Blob:
        """The object that is there afterwards: this upload's, or the one that came first."""
        for _ in range(_STARTS):
            try:
                return self._upload(key, file, content, content_type)
            except PreconditionFailed:
                blob = self._bucket.get_blob(key, retry=self._retry(), timeout=self._timeout())
                if blob is not None:
                    # Ours: an earlier try arrived, but its answer did not. Another's stays too.
                    ours = (blob.metadata or {}).get("sha256") == content.sha256
                    log.info("artifact_was_there", same_content=ours)
                    return blob
            except GoogleAPICallError as error:
                # An upload that Google no longer knows must be started again, says its guide.
                if error.code not in _UPLOAD_LOST:
                    raise
        raise ArtifactStoreUnavailable("the file cannot be stored (uploads are lost)")

    def _upload(self, key: str, file: BinaryIO, content: _Content, content_type: str) -> Blob:
        blob = self._bucket.blob(key, chunk_size=_CHUNK_BYTES)
        blob.crc32c = content.crc32c
        blob.cache_control = self._cache_control()
        # A player shows it; whoever saves it gets a name that tells one job's file from another's.
        name = quote("-".join(PurePosixPath(key).parts[-2:]), safe="")
        blob.content_disposition = f"inline; filename*=UTF-8''{name}"
        blob.metadata = {"sha256": content.sha256, "job": PurePosixPath(key).parent.name}
        file.seek(0)
        blob.upload_from_file(
            file,
            size=content.size_bytes,
            content_type=content_type,
            if_generation_match=0,
            # Not the client's: that would be of what it reads now, whatever was hashed before.
            checksum=None,
            retry=self._retry(),
            timeout=self._timeout(),
        )
        return blob

    def _sha256(self, blob: Blob) -> str:
        declared = (blob.metadata or {}).get("sha256")
        if declared is not None:
            return str(declared)
        # Somebody put it there by hand: look.
        with blob.open("rb", retry=self._retry(), timeout=self._timeout()) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def _cache_control(self) -> str:
        # A file never changes under its key, but it is removed one day.
        return f"{'public' if self._signer is None else 'private'}, max-age=3600, immutable"

    def _retry(self, *, at_most_seconds: float = math.inf) -> Retry:
        """Google's own list of what may be tried again, with more patience at the start."""
        patient = DEFAULT_RETRY.with_delay(initial=0.25, maximum=8.0, multiplier=2.0)
        return cast("Retry", patient.with_timeout(min(self._deadline_seconds, at_most_seconds)))

    def _timeout(self) -> float:
        return min(self._deadline_seconds, _REQUEST_SECONDS)


def _credentials(file: Path | None, signing: Signing) -> ServiceAccount | None:
    """None: Google's client finds its own, or needs none because an emulator is spoken to."""
    if file is not None:
        try:
            return cast(
                "ServiceAccount",
                service_account.Credentials.from_service_account_file(file, scopes=_SCOPES),
            )
        except (OSError, ValueError, GoogleAuthError) as error:
            raise _unusable(file, error) from error
    if signing == "key_file":
        problem = "name a service-account key file, or sign with iam"
        raise ConfigurationError(None, [("credentials_file", problem)])
    if signing == "public":
        return None
    try:
        credentials, _ = google.auth.default(scopes=_SCOPES)
    except GoogleAuthError as error:
        raise _unusable(None, error) from error
    if not hasattr(credentials, "service_account_email"):
        problem = "links are signed with iam, which needs a service account: run as one"
        raise ConfigurationError(None, [("signing", problem)])
    return cast("ServiceAccount", credentials)


def _unusable(file: Path | None, error: Exception) -> ConfigurationError:
    problem = f"no Google credentials that can be used ({type(error).__name__})"
    return ConfigurationError(file, [("", problem)])


def _check_key(key: str) -> None:
    """A key is the same place for Cloud Storage, a browser and a file system."""
    segments = key.split("/")
    if (
        any(segment in ("", ".", "..") for segment in segments)
        or any(character in key for character in "\\\x00\r\n")
        or len(key.encode(errors="replace")) > _NAME_BYTES
    ):
        raise ValueError("not a key of this store")


def _read(file: BinaryIO) -> _Content:
    sha256, crc32c, size_bytes = hashlib.sha256(), 0, 0
    while chunk := file.read(_CHUNK_BYTES):
        sha256.update(chunk)
        crc32c = google_crc32c.extend(crc32c, chunk)
        size_bytes += len(chunk)
    return _Content(
        size_bytes=size_bytes,
        sha256=sha256.hexdigest(),
        crc32c=base64.b64encode(crc32c.to_bytes(4)).decode(),
    )


@contextmanager
def _translated(what: str, *more: type[Exception]) -> Iterator[None]:
    # OSError: every error of requests is one.
    errors = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, OSError, *more)
    try:
        yield
    except errors as error:
        raise ArtifactStoreUnavailable(f"{what} ({_why(error)})") from error


def _why(error: BaseException) -> str:
    """No more than the kind of error: its text may name the bucket, a path or a link."""
    if isinstance(error, RetryError) and error.cause is not None:
        error = error.cause
    if isinstance(error, InvalidResponse):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
