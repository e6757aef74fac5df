"""The secrets that this installation signs its links with: the newest signs, those before it still count a while.

``signing.key`` holds the newest, 32 bytes; ``signing.old.json`` beside it those that it has followed, each
until the last link that it may have signed has expired.
"""

import fcntl
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.errors import ConfigurationError

_SECRET_BYTES = 32
_ID_CHARS = 8


@dataclass(frozen=True)
class OldSecret:
    secret: bytes = field(repr=False)
    until: datetime


@dataclass(frozen=True)
class SigningSecrets:
    newest: bytes = field(repr=False)
    older: tuple[OldSecret, ...] = ()

    def known(self, now: datetime) -> list[bytes]:
        """Those that count, the newest first."""
        return [self.newest, *(old.secret for old in self.older if now < old.until)]

    def derived(self, purpose: str) -> Self:
        """One secret on disk, one key a purpose: what one leaks tells nothing of the other."""
        older = tuple(replace(old, secret=_derived(old.secret, purpose)) for old in self.older)
        return replace(self, newest=_derived(self.newest, purpose), older=older)


def id_of(secret: bytes) -> str:
    """What a link says of the secret that it is signed with; it tells nothing of it."""
    return _derived(secret, "id").hex()[:_ID_CHARS]


class SigningFile:
    """Calling it gives the secrets, read anew when they have changed; for many threads."""

    def __init__(self, file: Path) -> None:
        """Makes it at an installation's first start. Raises ``ConfigurationError`` and ``OSError``."""
        self._file = file
        self._old = _old_beside(file)
        if not file.exists():
            _make(file)
        self._read = (self._version(), self._load())

    def __call__(self) -> SigningSecrets:
        """Raises ``ConfigurationError`` when they cannot be read any more."""
        version = self._version()
        if version != self._read[0]:
            self._read = (version, self._load())
        return self._read[1]

    def _version(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_version, (self._file, self._old)))

    def _load(self) -> SigningSecrets:
        return _load(self._file)


def rotate(file: Path, *, now: datetime, overlap: timedelta) -> None:
    """Sign with a new secret from now on; what the one before has signed counts until the overlap is over.

    Raises ``ConfigurationError`` and ``OSError``.
    """
    with _locked(file.parent):
        before = _load(file)
        kept = tuple(old for old in before.older if now < old.until and old.secret != before.newest)
        # First, so that whoever is killed in between has signed nothing that nobody can check.
        old = (OldSecret(before.newest, now + overlap), *kept)
        _replace(_old_beside(file), _Document.of(old).model_dump_json(indent=2).encode())
        _replace(file, secrets.token_bytes(_SECRET_BYTES))


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    secret: str = Field(pattern=r"^[0-9a-f]{64}$")
    until: datetime


class _Document(BaseModel):
    """What is in ``signing.old.json``."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    secrets: tuple[_Entry, ...] = ()

    @classmethod
    def of(cls, older: tuple[OldSecret, ...]) -> Self:
        return cls(secrets=tuple(_Entry(secret=old.secret.hex(), until=old.until) for old in older))


def _load(file: Path) -> SigningSecrets:
    newest = file.read_bytes()
    if len(newest) != _SECRET_BYTES:
        # With a cut-off key anyone could sign links.
        reason = f"must hold {_SECRET_BYTES} bytes; restore it, or remove it to make a new one"
        raise ConfigurationError(file, [("", reason)])
    old = _old_beside(file)
    try:
        document = _Document.model_validate_json(old.read_bytes())
    except FileNotFoundError:
        return SigningSecrets(newest)
    except ValidationError:
        reason = "holds no older signing keys; restore it, or remove it: links they signed end"
        raise ConfigurationError(old, [("", reason)]) from None
    older = tuple(OldSecret(bytes.fromhex(each.secret), each.until) for each in document.secrets)
    return SigningSecrets(newest, older)


def _old_beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.old.json")


def _version(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    # A rewrite within one tick of the clock still changes the inode.
    return status.st_mtime_ns, status.st_size, status.st_ino


def _make(file: Path) -> None:
    name = _written_beside(file, secrets.token_bytes(_SECRET_BYTES))
    try:
        # Two processes may start at once: the first one's key stays, and both read it.
        with suppress(FileExistsError):
            os.link(name, file)
    finally:
        name.unlink()


def _replace(file: Path, content: bytes) -> None:
    _written_beside(file, content).replace(file)


def _written_beside(file: Path, content: bytes) -> Path:
    """A file of another name, flushed; mkstemp makes it readable by its user only."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as made:
            made.write(content)
            made.flush()
            os.fsync(made.fileno())
    except BaseException:
        Path(name).unlink()
        raise
    return Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two who rotate at the same time both have what was before them kept."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, purpose.encode(), "sha256")
