"""API keys: who may ask, and as whom.

A key is ``pr_{id}_{secret}``. The key file holds the SHA-256 of each secret, never the secret: a
secret has 256 random bits, so a slow password hash would protect nothing more.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigurationError, Unauthenticated

_ID_BYTES = 4
_SECRET_BYTES = 32
_KEY = re.compile(r"pr_([0-9a-f]{8})_([0-9A-Za-z_-]{43,128})", re.ASCII)
_HOW_TO_MEND = "make a key with `promptreel up`, or restore the file from a backup"


class ApiKey(BaseModel):
    """One entry of the key file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: str
    owner: str = Field(min_length=1)
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: datetime


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: list[ApiKey]


@dataclass(frozen=True)
class _Snapshot:
    """The keys as they were in one version of the file."""

    version: tuple[int, int, int]
    keys: Mapping[str, ApiKey]


class KeyFile:
    """The API keys of this installation; an added or removed key counts at once."""

    def __init__(self, file: Path) -> None:
        """Raises ``ConfigurationError`` when the file cannot be used."""
        self._file = file
        self._snapshot = _read(file)

    def owner_of(self, authorization: str | None) -> str:
        """Whose key an ``Authorization`` header carries. Raises ``Unauthenticated``."""
        scheme, _, presented = (authorization or "").partition(" ")
        match = _KEY.fullmatch(presented.strip())
        key_id, secret = match.groups() if match else ("", "")
        known = self._current().get(key_id)
        # An unknown id is compared too: the time it takes tells nobody which ids exist.
        expected = known.hash if known else _hash("")
        equal = hmac.compare_digest(_hash(secret), expected)
        if known is None or not equal or scheme.lower() != "bearer":
            raise Unauthenticated
        return known.owner

    def _current(self) -> Mapping[str, ApiKey]:
        try:
            changed = _version(self._file.stat()) != self._snapshot.version
        except OSError:
            changed = True
        if changed:
            # A file that has gone or is broken opens no door: nobody's key counts until it is back.
            self._snapshot = _read(self._file)
        return self._snapshot.keys


def create_key(file: Path, owner: str, now: datetime) -> str:
    """Add a key for an owner and return it: the only time it can be read."""
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    entry = ApiKey(id=key_id, owner=owner, hash=_hash(secret), created_at=now)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.parent):
            earlier = _read(file).keys.values() if file.exists() else ()
            _write(file, _Document(keys=[*earlier, entry]))
    except OSError as error:
        reason = f"cannot be written: {error.strerror}"
        raise ConfigurationError(file, [("", reason)]) from error
    return f"pr_{key_id}_{secret}"


def _read(file: Path) -> _Snapshot:
    try:
        with file.open("rb") as opened:
            version = _version(os.fstat(opened.fileno()))
            text = opened.read()
    except FileNotFoundError:
        problem = f"there is no API key yet; {_HOW_TO_MEND}"
        raise ConfigurationError(file, [("", problem)]) from None
    except OSError as error:
        raise ConfigurationError(file, [("", f"cannot be read: {error.strerror}")]) from error
    try:
        document = _Document.model_validate_json(text)
    except ValidationError as error:
        problem = f"is not a key file; {_HOW_TO_MEND}"
        raise ConfigurationError(file, [("", problem)]) from error
    return _Snapshot(version, MappingProxyType({key.id: key for key in document.keys}))


def _version(status: os.stat_result) -> tuple[int, int, int]:
    # A rewrite within one tick of the clock still changes the inode.
    return status.st_mtime_ns, status.st_size, status.st_ino


def _write(file: Path, document: _Document) -> None:
    """Put the whole file there in one step; mkstemp makes it readable by its user only."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as made:
            made.write(document.model_dump_json(indent=2) + "\n")
            made.flush()
            os.fsync(made.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two processes that add a key at the same time both keep theirs."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
