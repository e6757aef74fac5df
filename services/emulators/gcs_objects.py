"""Buckets and objects on disk, with generations and preconditions as Cloud Storage keeps them.

An object is two files: its content under a name nobody else has, and a JSON file that says which
content is the object's. Replacing the second one is the moment an object changes.
"""

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import google_crc32c

from services.emulators.gcs_errors import (
    no_such_bucket,
    no_such_object,
    precondition_failed,
    wrong_hash,
)

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What an uploader says about an object."""

    content_type: str = "application/octet-stream"
    cache_control: str | None = None
    content_disposition: str | None = None
    custom: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Base64, as the API writes them; None: not declared."""

    md5: str | None = None
    crc32c: str | None = None


@dataclass(frozen=True, kw_only=True)
class Preconditions:
    """Generation 0 means that there is no object."""

    generation: int | None = None
    metageneration: int | None = None

    def check(self, there: "StoredObject | None") -> None:
        generation, metageneration = (
            (0, None) if there is None else (there.generation, there.metageneration)
        )
        if self.generation not in (None, generation):
            raise precondition_failed()
        if self.metageneration not in (None, metageneration):
            raise precondition_failed()


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One live object."""

    bucket: str
    name: str
    attributes: Attributes
    content: str  # the name of the file that holds it
    size_bytes: int
    md5: str
    crc32c: str
    generation: int
    metageneration: int
    created_at: str
    updated_at: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Part of a list."""

    objects: Sequence[StoredObject]
    next_after: str | None  # the name that the next page comes after; None at the end


class Objects:
    """The objects of all buckets. Every method may raise ``GcsError``."""

    def __init__(self, folder: Path, *, clock: Callable[[], datetime]) -> None:
        self._contents, self._records = folder / "contents", folder / "records"
        for place in (self._contents, self._records):
            place.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, bool] = {}
        self._objects: dict[tuple[str, str], StoredObject] = {}
        self._last_generation = 0
        # Google's own limit; a page may be shorter, whatever is asked for.
        self.longest_page = 1000
        for file in self._records.iterdir():
            self._load(file)

    def add_bucket(self, name: str, *, public: bool) -> None:
        self._buckets[name] = public

    def is_public(self, bucket: str) -> bool:
        if bucket not in self._buckets:
            raise no_such_bucket()
        return self._buckets[bucket]

    def new_content(self) -> Path:
        """Where the bytes of an upload go until it is complete."""
        return self._contents / secrets.token_hex(16)

    def check(self, bucket: str, name: str, preconditions: Preconditions) -> None:
        self.is_public(bucket)
        preconditions.check(self._objects.get((bucket, name)))

    def insert(
        self,
        bucket: str,
        name: str,
        content: Path,
        *,
        attributes: Attributes,
        declared: Hashes,
        preconditions: Preconditions,
    ) -> StoredObject:
        """Make a complete upload the object; the content is removed if it is refused."""
        try:
            size_bytes, computed = _measure(content)
            _compare(declared, computed)
            with self._lock:
                self.check(bucket, name, preconditions)
                moment = self._clock().isoformat()
                return self._store(
                    StoredObject(
                        bucket=bucket,
                        name=name,
                        attributes=attributes,
                        content=content.name,
                        size_bytes=size_bytes,
                        md5=computed.md5 or "",
                        crc32c=computed.crc32c or "",
                        generation=self._next_generation(),
                        metageneration=1,
                        created_at=moment,
                        updated_at=moment,
                    )
                )
        except Exception:
            content.unlink(missing_ok=True)
            raise

    def get(self, bucket: str, name: str, *, generation: int | None = None) -> StoredObject:
        self.is_public(bucket)
        there = self._objects.get((bucket, name))
        if there is None or generation not in (None, there.generation):
            raise no_such_object()
        return there

    def content(self, there: StoredObject) -> Path:
        return self._contents / there.content

    def list(
        self, bucket: str, *, prefix: str, after: str = "", at_most: int | None = None
    ) -> Page:
        """The objects whose name begins so and comes after another, in the order of names."""
        self.is_public(bucket)
        found = sorted(
            (
                there
                for (owner, name), there in list(self._objects.items())
                if owner == bucket and name.startswith(prefix) and name > after
            ),
            key=lambda there: there.name,
        )
        size = min(at_most or self.longest_page, self.longest_page)
        next_after = found[size - 1].name if len(found) > size else None
        return Page(objects=found[:size], next_after=next_after)

    def patch(
        self,
        bucket: str,
        name: str,
        change: Callable[[Attributes], Attributes],
        *,
        preconditions: Preconditions,
    ) -> StoredObject:
        with self._lock:
            there = self.get(bucket, name)
            preconditions.check(there)
            return self._store(
                replace(
                    there,
                    attributes=change(there.attributes),
                    metageneration=there.metageneration + 1,
                    updated_at=self._clock().isoformat(),
                )
            )

    def delete(
        self, bucket: str, name: str, *, generation: int | None, preconditions: Preconditions
    ) -> None:
        with self._lock:
            there = self.get(bucket, name, generation=generation)
            preconditions.check(there)
            self._record(there).unlink()
            self.content(there).unlink()
            del self._objects[bucket, name]

    def _store(self, new: StoredObject) -> StoredObject:
        record = self._record(new)
        written = record.with_suffix(".new")
        written.write_text(json.dumps(asdict(new)), encoding="utf-8")
        written.replace(record)
        replaced = self._objects.get((new.bucket, new.name))
        self._objects[new.bucket, new.name] = new
        if replaced is not None and replaced.content != new.content:
            self.content(replaced).unlink()
        return new

    def _load(self, record: Path) -> None:
        if record.suffix != ".json":
            return
        fields: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        there = StoredObject(**{**fields, "attributes": Attributes(**fields["attributes"])})
        self._objects[there.bucket, there.name] = there
        self._last_generation = max(self._last_generation, there.generation)

    def _record(self, there: StoredObject) -> Path:
        name = hashlib.sha256(f"{there.bucket}/{there.name}".encode()).hexdigest()
        return self._records / f"{name}.json"

    def _next_generation(self) -> int:
        # Microseconds, as Google's are, and never the same twice.
        now = int(self._clock().timestamp() * 1_000_000)
        self._last_generation = max(self._last_generation + 1, now)
        return self._last_generation


def _measure(content: Path) -> tuple[int, Hashes]:
    size_bytes, crc32c = 0, 0
    md5 = hashlib.md5(usedforsecurity=False)
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            size_bytes += len(chunk)
            crc32c = google_crc32c.extend(crc32c, chunk)
            md5.update(chunk)
    return size_bytes, Hashes(md5=_base64(md5.digest()), crc32c=_base64(crc32c.to_bytes(4)))


def _compare(declared: Hashes, computed: Hashes) -> None:
    if declared.crc32c not in (None, computed.crc32c):
        raise wrong_hash("CRC32C", declared.crc32c or "", computed.crc32c or "")
    if declared.md5 not in (None, computed.md5):
        raise wrong_hash("MD5", declared.md5 or "", computed.md5 or "")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
