"""What is kept of API keys, and every change of it.

A key is ``pr_{id}_{secret}``. The document holds the SHA-256 of each secret, never the secret: a
secret has 256 random bits, so a slow password hash would protect nothing more.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import KeyUnknown

_ID_BYTES = 4
_SECRET_BYTES = 32
_KEY = re.compile(r"pr_([0-9a-f]{8})_([0-9A-Za-z_-]{43,128})", re.ASCII)


class Scope(StrEnum):
    """What a key is good for."""

    READ = "read"  # look at what there is
    WRITE = "write"  # submit, cancel, delete, register


ALL_SCOPES = tuple(Scope)


class ApiKey(BaseModel):
    """One entry. Its hash is no secret: nobody finds what it was made of."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    owner: str = Field(min_length=1, max_length=200)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime
    scopes: tuple[Scope, ...] = ALL_SCOPES
    plan: str | None = None  # instead of the owner's
    note: str | None = Field(default=None, max_length=200)
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def counts(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyDocument(BaseModel):
    """All keys of an installation. Changes return a new one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: tuple[ApiKey, ...] = ()

    @classmethod
    def read(cls, text: str | bytes) -> Self:
        """Raises ``ValueError`` for what is no such document."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise ValueError("is not a key file") from None

    def written(self) -> str:
        return self.model_dump_json(indent=2, exclude_defaults=True) + "\n"

    def find(self, key_id: str) -> ApiKey:
        """Raises ``KeyUnknown``."""
        found = next((key for key in self.keys if key.id == key_id), None)
        if found is None:
            raise KeyUnknown
        return found

    def with_key(self, key: ApiKey) -> Self:
        """With a new key, or another state of a known one."""
        others = tuple(each for each in self.keys if each.id != key.id)
        return self.model_copy(update={"keys": (*others, key)})


# What a change makes of the document.
Change = Callable[[KeyDocument], KeyDocument]


def new_key(
    owner: str,
    now: datetime,
    *,
    scopes: tuple[Scope, ...] = ALL_SCOPES,
    plan: str | None = None,
    note: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A key, which can be read only now, and its entry."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    entry = ApiKey(
        id=key_id,
        owner=owner,
        hash=_hash(secret),
        created_at=now,
        scopes=scopes,
        plan=plan,
        note=note,
        expires_at=expires_at,
    )
    return f"pr_{key_id}_{secret}", entry


def revoked(document: KeyDocument, key_id: str, *, now: datetime) -> KeyDocument:
    """It opens nothing any more. Raises ``KeyUnknown``."""
    key = document.find(key_id)
    return document.with_key(key.model_copy(update={"revoked_at": key.revoked_at or now}))


def rotated(
    document: KeyDocument, key_id: str, successor: ApiKey, *, now: datetime, overlap: timedelta
) -> KeyDocument:
    """With a successor; the old one counts for a while longer. Raises ``KeyUnknown``."""
    old = document.find(key_id)
    end = now + overlap
    if old.expires_at is None or old.expires_at > end:
        document = document.with_key(old.model_copy(update={"expires_at": end}))
    return document.with_key(successor)


def presented(authorization: str | None) -> tuple[str, str] | None:
    """The id and the secret that an ``Authorization`` header carries; None if it carries no key."""
    scheme, _, key = (authorization or "").partition(" ")
    match = _KEY.fullmatch(key.strip())
    if match is None or scheme.lower() != "bearer":
        return None
    return match[1], match[2]


def opens(key: ApiKey | None, secret: str) -> bool:
    """Whether the secret is this key's. It takes as long for one that is not there."""
    expected = key.hash if key else _hash("")
    return hmac.compare_digest(_hash(secret), expected) and key is not None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
