"""A file on its way to its target, over as many tries as it takes; the half without a network.

Beside the target stand ``NAME.partial``, what has come so far, and ``NAME.partial.json``, which says
of what: the next try, in this process or in a later one, asks for the rest of exactly that.
"""

import fcntl
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import BaseModel, ValidationError

from shared.client.errors import ApiError, BrokenDownload, ClientError

OnBytes = Callable[[int, int | None], None]

_PARTIAL_CONTENT = 206
_RANGE_NOT_SATISFIABLE = 416
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)", re.ASCII)


class _Note(BaseModel):
    """Of what the partial file is a part."""

    job_id: str
    kind: str
    etag: str


class Download:
    """Use as a context: what has come stays for the next try, unless it is nothing."""

    def __init__(self, target: Path, *, job_id: str, kind: str, on_bytes: OnBytes | None) -> None:
        self.whole = False
        self.got_somewhere = False  # in the last try
        self._target = target
        self._partial = target.with_name(target.name + ".partial")
        self._note_file = target.with_name(target.name + ".partial.json")
        self._job_id = job_id
        self._kind = kind
        self._on_bytes = on_bytes
        self._total: int | None = None
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def headers(self) -> dict[str, str]:
        """For the next request: everything, or the rest if the file is still the same."""
        self._close()
        self.got_somewhere = False
        # Bytes are counted as they are stored.
        headers = {"Accept-Encoding": "identity"}
        note, size = self._note(), self._size()
        if note is not None and size:
            headers |= {"Range": f"bytes={size}-", "If-Range": note.etag}
        return headers

    def begins(self, status: int, headers: Mapping[str, str]) -> None:
        """The reply has begun: what follows goes on, or starts over."""
        file = self._opened()
        if status == _PARTIAL_CONTENT:
            found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
            if found is None or int(found[1]) != self._size():
                self.start_over()
                raise BrokenDownload("The server sent another part of the file than asked for.")
            self._total = int(found[2])
            return
        file.truncate(0)
        file.seek(0)
        length = headers.get("Content-Length", "")
        self._total = int(length) if length.isdigit() else None
        self._write_note(headers.get("ETag", ""))

    def refused(self, error: ApiError) -> ClientError:
        """What to raise for a reply that is no file."""
        if error.status != _RANGE_NOT_SATISFIABLE:
            return error
        self.start_over()
        return BrokenDownload("The file is shorter than what has come. Run it again to start over.")

    def takes(self, chunk: bytes) -> None:
        if self._file is None:
            raise AssertionError("no reply has begun")
        self._file.write(chunk)
        self.got_somewhere = True
        if self._on_bytes is not None:
            self._on_bytes(self._file.tell(), self._total)

    def ended(self) -> None:
        """The reply is over: the file is whole and takes its name. Raises ``BrokenDownload``."""
        if self._file is None:
            raise AssertionError("no reply has begun")
        self._file.flush()
        size = self._size()
        if self._total is not None and size != self._total:
            if size > self._total:
                self.start_over()
            raise BrokenDownload(f"{size} of {self._total} bytes came. Run it again to go on.")
        self._partial.replace(self._target)
        self._note_file.unlink(missing_ok=True)
        self.whole = True

    def start_over(self) -> None:
        """What has come is of no use."""
        self._close()
        self._partial.unlink(missing_ok=True)
        self._note_file.unlink(missing_ok=True)

    def _opened(self) -> IO[bytes]:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        file = self._partial.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise BrokenDownload(
                f"Another download writes to {self._target.name}. Wait for it, or choose another name."
            ) from None
        self._file = file
        return file

    def _close(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if not self.whole and not self._size():
            self.start_over()

    def _note(self) -> _Note | None:
        try:
            note = _Note.model_validate_json(self._note_file.read_bytes())
        except (OSError, ValidationError):
            return None
        return note if (note.job_id, note.kind) == (self._job_id, self._kind) else None

    def _write_note(self, etag: str) -> None:
        """Only a strong ETag says that two files are the same, byte for byte."""
        if not etag.startswith('"'):
            self._note_file.unlink(missing_ok=True)
            return
        note = _Note(job_id=self._job_id, kind=self._kind, etag=etag)
        self._note_file.write_text(note.model_dump_json())

    def _size(self) -> int:
        return self._partial.stat().st_size if self._partial.exists() else 0
