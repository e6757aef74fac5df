"""V4 signed links, made here and not by Google's client: that one signs for its own clock's time only.

https://cloud.google.com/storage/docs/authentication/signatures
"""

# mypy: disable-error-code="no-untyped-call"
# google-auth ships half of its types.

import base64
import hashlib
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import quote, urlsplit

import requests
from google.api_core.exceptions import from_http_response
from google.api_core.retry import Retry
from google.auth import compute_engine
from google.auth.transport.requests import AuthorizedSession, Request
from google.oauth2 import service_account

# Whose key it is: of a key file, or of what this process runs as on Google's machines.
ServiceAccount = service_account.Credentials | compute_engine.Credentials

_ALGORITHM = "GOOG4-RSA-SHA256"
_HOUR_SECONDS = 3600
_REQUEST_SECONDS = 10


class Signer(Protocol):
    """A service account's signature."""

    # What is signed may stop being valid after that.
    longest_seconds: int

    def email(self) -> str: ...

    def sign(self, text: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256."""

    def close(self) -> None: ...


class KeyFileSigner:
    """Signs with the private key of a service-account key file."""

    longest_seconds = 7 * 24 * _HOUR_SECONDS  # V4 allows no more

    def __init__(self, credentials: service_account.Credentials) -> None:
        self._credentials = credentials

    def email(self) -> str:
        return str(self._credentials.signer_email)

    def sign(self, text: bytes) -> bytes:
        return bytes(self._credentials.sign_bytes(text))

    def close(self) -> None:
        """Nothing is held open."""


class IamSigner:
    """Signs without a key: IAM's signBlob signs for the service account that this process runs as.

    The account must be Service Account Token Creator on itself.
    """

    longest_seconds = 12 * _HOUR_SECONDS  # Google may change the key it signs with after that

    def __init__(self, credentials: ServiceAccount, *, iam_url: str, retry: Retry) -> None:
        self._credentials = credentials
        self._iam_url = iam_url
        self._retry = retry
        self._session = AuthorizedSession(credentials)

    def email(self) -> str:
        if not self._credentials.valid:
            # On Cloud Run, credentials learn whose they are with their first token.
            with requests.Session() as session:
                self._credentials.refresh(Request(session))
        return str(self._credentials.service_account_email)

    def sign(self, text: bytes) -> bytes:
        return self._retry(self._sign_blob)(text)

    def _sign_blob(self, text: bytes) -> bytes:
        url = f"{self._iam_url}/v1/projects/-/serviceAccounts/{self.email()}:signBlob"
        body = {"payload": base64.b64encode(text).decode()}
        reply = self._session.post(url, json=body, timeout=_REQUEST_SECONDS)
        if not reply.ok:
            raise from_http_response(reply)
        return base64.b64decode(reply.json()["signedBlob"])

    def close(self) -> None:
        self._session.close()


def object_path(bucket: str, key: str) -> str:
    """Where an object is on Cloud Storage's server."""
    return f"/{bucket}/{quote(key, safe='/~')}"


def signed_url(endpoint: str, path: str, *, seconds: int, now: datetime, signer: Signer) -> str:
    """A link that lets anyone GET the path for so many seconds."""
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/auto/storage/goog4_request"
    parameters = {
        "X-Goog-Algorithm": _ALGORITHM,
        "X-Goog-Credential": f"{signer.email()}/{scope}",
        "X-Goog-Date": moment,
        "X-Goog-Expires": str(seconds),
        "X-Goog-SignedHeaders": "host",
    }
    # Sorted by name, as the signature needs them.
    query = "&".join(f"{name}={quote(value, safe='~')}" for name, value in parameters.items())
    host = urlsplit(endpoint).netloc
    request = "\n".join(("GET", path, query, f"host:{host}\n", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}"
    return f"{endpoint}{path}?{query}&X-Goog-Signature={signer.sign(text.encode()).hex()}"
