"""What the file of a picture says of itself, read before anything of it is decoded.

Pillow finds out too late: it warns of large pictures and of damaged metadata, and its warnings are the
whole process's, whichever thread they are about.
"""

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

Kind = Literal["JPEG", "PNG", "WEBP"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_WEBP = re.compile(rb"RIFF.{4}WEBP(VP8X|VP8L|VP8 )", re.DOTALL)

# What is between two of them is compressed; within that, 0xFF is followed by 0 or a restart marker.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE, _EXIF = 0xDA, 0xD9, 0xE1
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# What programs add to a JPEG, and what of it its pixels cannot be read without; the rest is EXIF, XMP,
# remarks.
_ADDED = frozenset(range(0xE0, 0xF0)) | {0xFE}
_NEEDED = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
# Encoders write ten or so. Each is a pass over all pixels, in no more than a few bytes.
_MOST_SCANS = 64
# No encoder writes so many; to look at millions of empty ones takes seconds.
_MOST_PARTS = 20_000

_WEBP_ANIMATED = 0x02
_PNG_OF_PALETTE = 3
_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
_ORIENTATION_TAG, _SHORT = 0x0112, 3
_UPRIGHT, _LAST_ORIENTATION, _FIRST_ON_ITS_SIDE = 1, 8, 5


class UnusablePicture(ValueError):
    """A sentence that says what is wrong with a picture, and quotes nothing of it."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A file of a known kind. Its ``repr`` is safe to log."""

    kind: Kind
    size: tuple[int, int]  # width, height, as stored
    content: bytes = field(repr=False)  # what is to be decoded
    orientation: int = _UPRIGHT  # as EXIF counts, 1 to 8
    animated: bool = False
    lossless: bool = True

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height once it is turned upright."""
        width, height = self.size
        return (height, width) if self.orientation >= _FIRST_ON_ITS_SIDE else (width, height)


def read_container(content: bytes) -> Container:
    """By its content, whatever it is called. Raises ``UnusablePicture``."""
    try:
        if content.startswith(_JPEG):
            container = _read_jpeg(content)
        elif content.startswith(_PNG):
            container = _read_png(content)
        elif _WEBP.match(content):
            container = _read_webp(content)
        else:
            raise UnusablePicture("The file is no JPEG, no PNG and no WebP.")
    except (struct.error, LookupError):
        raise damaged() from None
    if 0 in container.size:
        raise damaged()
    return container


def damaged() -> UnusablePicture:
    return UnusablePicture("The picture is damaged, or not all of it is there.")


def _read_jpeg(content: bytes) -> Container:
    kept: list[bytes] = []
    sizes: list[tuple[int, int]] = []
    exif = b""
    kept_until = scans = parts = 0
    for segment in islice(_segments(content), _MOST_PARTS + 1):
        parts += 1
        scans += segment.name == _START_OF_SCAN
        if segment.name in _SIZES:
            height, width = struct.unpack_from(">HH", segment.data, 1)
            sizes.append((width, height))
        if segment.name == _EXIF and segment.data.startswith(b"Exif\0"):
            exif = exif or segment.data
        if segment.is_remark:
            kept.append(content[kept_until : segment.start])
            kept_until = segment.end
    kept.append(content[kept_until:])
    if scans > _MOST_SCANS or parts > _MOST_PARTS:
        raise damaged()
    return Container(
        kind="JPEG",
        size=sizes[0],
        content=b"".join(kept),
        orientation=_orientation(exif),
        lossless=False,
    )


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """One of a JPEG, from its marker to its end."""

    name: int
    start: int
    end: int
    data: bytes = field(repr=False)

    @property
    def is_remark(self) -> bool:
        if self.name not in _ADDED:
            return False
        return self.name not in _NEEDED or not self.data.startswith(_NEEDED[self.name])


def _segments(content: bytes) -> Iterator[_Segment]:
    """To the end of the image, and not beyond. Raises ``struct.error`` where the file is cut off."""
    position = 2
    while marker := _MARKER.search(content, position):
        name = content[marker.start() + 1]
        if name == _END_OF_IMAGE:
            return
        (length,) = struct.unpack_from(">H", content, marker.end())
        # It counts itself.
        position = marker.end() + max(length, 2)
        yield _Segment(
            name=name,
            start=marker.start(),
            end=position,
            data=content[marker.end() + 2 : position],
        )


def _read_png(content: bytes) -> Container:
    chunks: dict[bytes, bytes] = {}
    position, has_pixels = len(_PNG), False
    for _ in range(_MOST_PARTS):
        length, name = struct.unpack_from(">I4s", content, position)
        # A palette that comes after the pixels is none of theirs.
        if name in (b"IHDR", b"eXIf", b"acTL") or (name == b"PLTE" and not has_pixels):
            chunks.setdefault(name, content[position + 8 : position + 8 + length])
        has_pixels = has_pixels or name == b"IDAT"
        position += length + 12
        if position >= len(content) or name == b"IEND":
            break
    else:
        raise damaged()
    width, height, _, colour_type = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    if colour_type == _PNG_OF_PALETTE and not chunks.get(b"PLTE"):
        raise damaged()  # Pillow would open it, and fail to write it.
    return Container(
        kind="PNG",
        size=(width, height),
        content=content,
        orientation=_orientation(chunks.get(b"eXIf", b"")),
        animated=b"acTL" in chunks,
    )


def _read_webp(content: bytes) -> Container:
    chunks: dict[bytes, bytes] = {}
    position = 12
    for _ in range(_MOST_PARTS):
        name, length = struct.unpack_from("<4sI", content, position)
        chunks.setdefault(name, content[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
        if position + 8 > len(content):
            break
    else:
        raise damaged()
    extended = chunks.get(b"VP8X", b"\0")
    return Container(
        kind="WEBP",
        size=_webp_size(chunks),
        content=content,
        orientation=_orientation(chunks.get(b"EXIF", b"")),
        animated=bool(extended[0] & _WEBP_ANIMATED) or b"ANMF" in chunks,
        lossless=b"VP8L" in chunks,
    )


def _webp_size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    if b"VP8X" in chunks:
        low_width, high_width, low_height, high_height = struct.unpack_from(
            "<HBHB", chunks[b"VP8X"], 4
        )
        return (high_width << 16) + low_width + 1, (high_height << 16) + low_height + 1
    if b"VP8L" in chunks:
        (bits,) = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", chunks[b"VP8 "], 6)
    return width & 0x3FFF, height & 0x3FFF


def _orientation(exif: bytes) -> int:
    """What EXIF says; upright where it says nothing that can be read."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = _BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return _UPRIGHT
    with suppress(struct.error):
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, directory)
        for index in range(count):
            tag, kind, _, value = struct.unpack_from(
                f"{order}HHIH", tiff, directory + 2 + 12 * index
            )
            if tag == _ORIENTATION_TAG and kind == _SHORT and 1 <= value <= _LAST_ORIENTATION:
                return int(value)
    return _UPRIGHT
