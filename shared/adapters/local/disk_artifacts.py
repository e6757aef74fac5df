"""The artifact store as files, with HMAC-signed expiring links that the API serves.

A link is ``/outputs/{key}?expires={unix seconds}&key_id={hex}&signature={hex}``; the signature covers the
method, the key and the moment, so none of them can be changed. Links without a ``key_id`` are of an
earlier version: any of the secrets may have signed them.
"""

import hashlib
import hmac
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlencode

from shared.adapters.local.partial_files import PartialFiles
from shared.adapters.local.signing_keys import SigningSecrets, id_of
from shared.complete_file import complete_or_absent
from shared.errors import (
    ArtifactExpired,
    ArtifactStoreUnavailable,
    LinkTampered,
)
from shared.ports import Link, StoredFile

_CHUNK_BYTES = 1024 * 1024


class DiskArtifacts:
    """An ``ArtifactStore``; ``open_link`` is what the API serves its links with."""

    def __init__(self, root: Path, *, bucket: str, signing: Callable[[], SigningSecrets]) -> None:
        self._bucket = bucket
        self._folder = root / bucket
        # Beside the bucket, on the same disk: a link from here to there is atomic.
        self._partial = PartialFiles(root / ".partial")
        self._signing = signing
        self._folder.mkdir(parents=True, exist_ok=True)
        self._partial.remove_the_dead()

    def put(self, key: str, source: Path, *, content_type: str) -> StoredFile:  # noqa: ARG002 - a file's ending tells its type here
        target = self._path(key)
        try:
            if not target.exists():
                self._create_once(source, target)
            return StoredFile(
                key=key,
                uri=f"local://{self._bucket}/{key}",
                size_bytes=target.stat().st_size,
                sha256=_sha256(target),
            )
        except OSError as error:
            raise ArtifactStoreUnavailable(f"the file cannot be stored ({_why(error)})") from error

    def keys(self, folder: str) -> Sequence[str]:
        path = self._path(folder)
        try:
            files = sorted(file for file in path.rglob("*") if file.is_file())
        except OSError as error:
            raise ArtifactStoreUnavailable(f"the files cannot be listed ({_why(error)})") from error
        return [file.relative_to(self._folder).as_posix() for file in files]

    def fetch(self, key: str, target: Path) -> bool:
        source = self._path(key)
        try:
            if not source.is_file():
                return False
            with complete_or_absent(target) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise ArtifactStoreUnavailable(f"the file cannot be fetched ({_why(error)})") from error
        return True

    def link(self, key: str, *, expires_in_seconds: int, now: datetime) -> Link:
        self._path(key)
        expires_at = (now + timedelta(seconds=expires_in_seconds)).replace(microsecond=0)
        expires = int(expires_at.timestamp())
        secret = self._signing().newest
        signature = _signature(secret, "GET", key, expires)
        query = urlencode({"expires": expires, "key_id": id_of(secret), "signature": signature})
        return Link(url=f"/outputs/{quote(key)}?{query}", expires_at=expires_at)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactStoreUnavailable(f"the file cannot be removed ({_why(error)})") from error
        self._remove_emptied_folders(path)

    def delete_all(self, folder: str) -> None:
        path = self._path(folder)
        try:
            while path.is_dir():
                # Another sweep may be removing the same: what it was faster at is done.
                with suppress(FileNotFoundError):
                    shutil.rmtree(path)
        except OSError as error:
            why = _why(error)
            raise ArtifactStoreUnavailable(f"the files cannot be removed ({why})") from error
        self._remove_emptied_folders(path)

    def open_link(
        self, key: str, *, method: str, expires: str, key_id: str, signature: str, now: datetime
    ) -> Path:
        """The file behind a link. Raises ``LinkTampered``, then ``ArtifactExpired``."""
        if not expires.isdecimal() or len(expires) > 12:  # noqa: PLR2004 - the year 33658
            raise LinkTampered
        # Whoever may have a file may ask about it.
        signed_method = "GET" if method == "HEAD" else method
        given = signature.encode(errors="replace")
        if not any(
            hmac.compare_digest(
                _signature(secret, signed_method, key, int(expires)).encode(), given
            )
            for secret in self._signing().known(now)
            if key_id in ("", id_of(secret))
        ):
            raise LinkTampered
        if now >= datetime.fromtimestamp(int(expires), UTC):
            raise ArtifactExpired("This link has expired. Ask the job for a new one.")
        path = self._path(key)
        if not path.is_file():
            raise ArtifactExpired("The file is past its retention. Submit the job again.")
        return path

    def close(self) -> None:
        """Nothing is held open."""

    def _create_once(self, source: Path, target: Path) -> None:
        """Copy, flush, then give it its name in one step: nobody ever sees half a file."""
        with self._partial.new() as (path, copy), source.open("rb") as original:
            shutil.copyfileobj(original, copy, _CHUNK_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, target)
            except FileExistsError:
                return  # Another attempt of the same job was first: its file stays.
        for folder in target.parents:
            _flush(folder)  # The folders may be new too: a power cut must not take them.
            if folder == self._folder:
                break

    def _remove_emptied_folders(self, removed: Path) -> None:
        for folder in removed.parents:
            if folder == self._folder:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue  # Another sweep was faster.
            except OSError:  # not empty: others still live here
                return

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts or "\\" in key or "\x00" in key:
            # Keys are made by the worker; a link's key was signed by us before it gets here.
            raise ValueError("not a key of this store")
        return self._folder.joinpath(*parts)


def _signature(secret: bytes, method: str, key: str, expires: int) -> str:
    text = f"{method}\n{key}\n{expires}".encode(errors="replace")
    return hmac.new(secret, text, hashlib.sha256).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
