"""A secret in Secret Manager, whose versions are added and never changed."""

import base64
import binascii
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import google.auth
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from requests import RequestException, Response

from shared.errors import KeysUnavailable

_SERVICE = "https://secretmanager.googleapis.com"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_SECONDS = 10.0
_NAME = re.compile(r".*/versions/(\d+)")


@dataclass(frozen=True, kw_only=True)
class SecretVersion:
    number: int
    content: bytes


class Secret:
    """``projects/{project}/secrets/{name}``. Every method may raise ``KeysUnavailable``."""

    def __init__(
        self, name: str, *, credentials: Credentials | None = None, service: str = _SERVICE
    ) -> None:
        self._url = f"{service}/v1/{name}"
        self._credentials = credentials
        self._session: AuthorizedSession | None = None

    def read(self, version: int | None = None) -> SecretVersion | None:
        """The newest version, or the one of a number; None if there is none."""
        which = "latest" if version is None else str(version)
        reply = self._ask("GET", f"/versions/{which}:access")
        if reply is None:
            return None
        try:
            content = base64.b64decode(reply["payload"]["data"], validate=True)
            return SecretVersion(number=_number(reply), content=content)
        except (KeyError, TypeError, binascii.Error):
            raise _unreadable() from None

    def add(self, content: bytes) -> int:
        """The number of the new version, the newest from now on."""
        payload = {"payload": {"data": base64.b64encode(content).decode()}}
        reply = self._ask("POST", ":addVersion", json=payload)
        if reply is None:
            raise KeysUnavailable("there is no such secret; Terraform makes it")
        return _number(reply)

    def _ask(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - as JSON has it
        """What it replies; None where it says 404."""
        try:
            response: Response = self._connected().request(  # type: ignore[no-untyped-call]  # Google's
                method, self._url + path, timeout=_SECONDS, **options
            )
        except (RequestException, GoogleAuthError) as error:
            raise KeysUnavailable(
                f"Secret Manager cannot be asked ({type(error).__name__})"
            ) from error
        if response.status_code == HTTPStatus.NOT_FOUND:
            return None
        if not response.ok:
            # Google's own text stays out of it: it names the project and the account.
            raise KeysUnavailable(f"Secret Manager does not give it ({response.status_code})")
        try:
            return response.json()
        except ValueError:
            raise _unreadable() from None

    def _connected(self) -> AuthorizedSession:
        if self._session is None:
            credentials = self._credentials
            if credentials is None:
                credentials, _ = google.auth.default(scopes=_SCOPES)
            self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]  # Google's
        return self._session


def _number(reply: Any) -> int:  # noqa: ANN401 - as JSON has it
    match = _NAME.fullmatch(str(reply.get("name") if isinstance(reply, dict) else ""))
    if match is None:
        raise _unreadable()
    return int(match[1])


def _unreadable() -> KeysUnavailable:
    return KeysUnavailable("Secret Manager's reply cannot be read")
