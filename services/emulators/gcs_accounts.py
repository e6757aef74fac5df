"""Service accounts: their keys, and the access tokens they were given."""

import json
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from services.emulators.gcs_errors import forbidden, unauthenticated

_KEY_BITS = 2048


@dataclass(frozen=True)
class _Account:
    # The key that Google keeps and signs with when IAM is asked to.
    system_key: RSAPrivateKey
    # Those that were handed out as files.
    user_keys: list[RSAPrivateKey] = field(default_factory=list)


class ServiceAccounts:
    """Who may sign links, and with what."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}
        self._tokens: dict[str, str] = {}

    def register(self, email: str) -> None:
        """Nothing happens if it is known."""
        with self._lock:
            if email not in self._accounts:
                self._accounts[email] = _Account(system_key=_new_key())

    def write_key_file(self, email: str, file: Path, *, project: str, token_uri: str) -> None:
        """Make the account a key and write it as Google's console would."""
        self.register(email)
        key = _new_key()
        self._accounts[email].user_keys.append(key)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        content = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": str(secrets.randbits(64)),
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }
        file.touch(mode=0o600)
        file.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def verifies(self, email: str, text: bytes, signature: bytes) -> bool:
        """Whether one of the account's keys made the signature (RSASSA-PKCS1-v1_5, SHA-256)."""
        return any(_verifies(key, text, signature) for key in self._keys(email))

    def issue_token(self, email: str) -> str:
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self._tokens[token] = email
        return token

    def whose(self, authorization: str | None) -> str | None:
        """The account behind an ``Authorization`` header; None: nobody signed in."""
        if authorization is None:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or token not in self._tokens:
            raise unauthenticated()
        return self._tokens[token]

    def sign(self, email: str, text: bytes, *, caller: str | None) -> bytes:
        """An account may sign for itself only, as one that is its own Token Creator."""
        if caller is None:
            raise unauthenticated()
        if caller != email or email not in self._accounts:
            raise forbidden(
                "Permission 'iam.serviceAccounts.signBlob' denied on resource "
                "(or it may not exist)."
            )
        return self._accounts[email].system_key.sign(text, padding.PKCS1v15(), SHA256())

    def _keys(self, email: str) -> Sequence[RSAPrivateKey]:
        account = self._accounts.get(email)
        return () if account is None else (account.system_key, *account.user_keys)


def _new_key() -> RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _verifies(key: RSAPrivateKey, text: bytes, signature: bytes) -> bool:
    try:
        key.public_key().verify(signature, text, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
