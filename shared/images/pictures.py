"""Pictures as files: decoded only once their header is known to be harmless, and written as JPEG.

Pillow is imported late: it takes a while, and not everybody who knows of pictures has it.
"""

import struct
import sys
import zlib
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from shared.complete_file import complete_or_absent
from shared.images.containers import (
    Container,
    Kind,
    UnusablePicture,
    damaged,
    read_container,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Nobody sees a difference.
JPEG_QUALITY = 95
_THUMBNAIL_QUALITY = 85
_LONGEST_JPEG = 65_500  # pixels, of either side

# What Pillow and its decoders are known to trip over in files that are no good: bugs of theirs.
_STUMBLED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

# What a profile calls the colours it is about, by the mode of a picture.
_COLOURS = {
    b"GRAY": ("1", "L", "LA", "I", "I;16"),
    b"RGB ": ("P", "PA", "RGB", "RGBA"),
    b"CMYK": ("CMYK",),
}


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A picture in memory, upright, with its colour profile and nothing else that was said of it."""

    kind: Kind
    image: "Image"
    turned: bool  # it was stored another way
    lossless: bool

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size


def decoded(content: bytes, *, max_pixels: int, draft_pixels: int | None = None) -> Decoded:
    """Every pixel of a still JPEG, PNG or WebP; raises ``UnusablePicture`` for anything else.

    With ``draft_pixels`` a JPEG's sides may come shorter, but not below that, for less time and memory.
    """
    container = read_container(content)
    width, height = container.size
    if width * height > max_pixels:
        raise UnusablePicture(f"The picture has more than {max_pixels} pixels: {width}×{height}.")
    if container.animated:
        raise UnusablePicture("The picture is animated.")
    image = _decode(container, draft_pixels)
    said = {"transparency": image.info.get("transparency"), "icc_profile": _colour_profile(image)}
    image.info = {name: value for name, value in said.items() if value is not None}
    return Decoded(
        kind=container.kind,
        image=_upright(image, container.orientation),
        turned=container.orientation != 1,
        lossless=container.lossless,
    )


def as_jpeg(source: Path, target: Path, *, max_pixels: int) -> tuple[int, int]:
    """Any JPEG, PNG or WebP as a JPEG; one that is a JPEG stays as it is, byte for byte.

    What is transparent becomes white. Returns width and height, and raises ``ValueError`` saying what
    is wrong with a file that is no such picture, or has too many pixels.
    """
    content = source.read_bytes()
    picture = decoded(content, max_pixels=max_pixels)
    if picture.kind != "JPEG":
        if max(picture.size) > _LONGEST_JPEG:
            raise UnusablePicture("The picture is too long or too wide for a JPEG.")
        content = _jpeg(_opaque(picture.image), JPEG_QUALITY)
    _write(content, target)
    return picture.size


def thumbnail(source: Path, target: Path, *, pixels: int) -> tuple[int, int]:
    """A small JPEG of a picture that ``as_jpeg`` has made: its longest side is at most ``pixels``.

    Returns width and height. Raises ``ValueError`` as ``as_jpeg`` does.
    """
    # Twice as many as needed, so that it is not as coarse as the decoder's short cut.
    picture = decoded(source.read_bytes(), max_pixels=sys.maxsize, draft_pixels=2 * pixels)
    image = _opaque(picture.image)
    image.thumbnail((pixels, pixels))
    _write(_jpeg(image, _THUMBNAIL_QUALITY), target)
    return image.size


def _decode(container: Container, draft_pixels: int | None) -> "ImageFile":
    from PIL.Image import DecompressionBombError  # noqa: PLC0415 - late, see above

    with suppress(*_STUMBLED, DecompressionBombError):
        image = _opened(container)
        # A file may say its size twice, and only one of them was looked at.
        if image.size == container.size:
            if draft_pixels is not None:
                image.draft(None, (draft_pixels, draft_pixels))
            image.load()
            return image
    # Here, outside of the block: Pillow's errors may quote the file.
    raise damaged()


def _opened(container: Container) -> "ImageFile":
    """By the one decoder for it: ``Image.open`` would try others, and warn of large pictures."""
    from PIL.JpegImagePlugin import JpegImageFile  # noqa: PLC0415 - late, see above
    from PIL.PngImagePlugin import PngImageFile  # noqa: PLC0415 - too
    from PIL.WebPImagePlugin import WebPImageFile  # noqa: PLC0415 - too

    file = BytesIO(container.content)
    match container.kind:
        case "JPEG":
            return JpegImageFile(file)
        case "PNG":
            return PngImageFile(file)
        case "WEBP":
            return WebPImageFile(file)


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose  # noqa: PLC0415 - late, see above

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _colour_profile(image: "Image") -> bytes | None:
    """Without it the colours are others. One that is not about this picture's is none."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or profile[36:40] != b"acsp":
        return None
    whole = int.from_bytes(profile[:4], "big") == len(profile)
    return profile if whole and image.mode in _COLOURS.get(profile[16:20], ()) else None


def _opaque(image: "Image") -> "Image":
    """In greys or in red, green and blue, as every program shows a JPEG; on white."""
    from PIL import Image as pillow  # noqa: N813, PLC0415 - late, see above

    said = image.info
    if image.mode.startswith("I"):
        # Sixteen bits to eight: Pillow would only cut off what is above 255.
        image = image.convert("I").point(lambda value: value * (1 / 257)).convert("L")
    elif image.has_transparency_data:
        whole = image.convert("RGBA")
        image = pillow.new("RGB", image.size, "white")
        image.paste(whole, mask=whole.getchannel("A"))
    elif image.mode not in ("L", "RGB"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image.info = {"icc_profile": said.get("icc_profile")}
    return image


def _jpeg(image: "Image", quality: int) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, icc_profile=_colour_profile(image))
    return file.getvalue()


def _write(content: bytes, target: Path) -> None:
    with complete_or_absent(target) as partial:
        partial.write_bytes(content)
