"""Single pictures: brought to a size, written, read. No torch here."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from services.gpu_worker.backends.backend import Picture
from shared.catalog import Size
from shared.complete_file import complete_or_absent
from shared.errors import RenderCrashed

_JPEG_QUALITY = 88
# Nobody sees that a picture is squeezed by less than this; its edges are worth more.
_UNSEEN = 0.01


def fit(picture: Picture, size: Size) -> Picture:
    """The picture at this size: it covers the frame, and what is over is cut off on both sides.

    An aspect that differs by less than a hundredth is simply scaled.
    """
    height, width = picture.shape[:2]
    if (width, height) == (size.width, size.height):
        return picture
    image = Image.fromarray(picture)
    box = _shown_part(width, height, size.width / size.height)
    return np.asarray(image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box))


def save_picture(picture: Picture, path: Path) -> None:
    """Write a PNG: every pixel as it is."""
    with complete_or_absent(path) as partial:
        Image.fromarray(picture).save(partial, format="PNG")


def read_picture(path: Path) -> Picture:
    """What ``save_picture`` wrote, or a caller has sent. Raises ``RenderCrashed`` for a file that is no picture."""
    return _decoded(path)


def picture_of(content: bytes) -> Picture:
    """A PNG's or a JPEG's pixels. Raises ``RenderCrashed`` for anything else."""
    return _decoded(BytesIO(content))


def save_jpeg(image: Image.Image, path: Path) -> None:
    with complete_or_absent(path) as partial:
        image.save(partial, format="JPEG", quality=_JPEG_QUALITY, optimize=True)


def _decoded(source: Path | BytesIO) -> Picture:
    try:
        with Image.open(source) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise RenderCrashed("A picture's file cannot be read.") from error


def _shown_part(width: int, height: int, aspect: float) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of the largest part in the middle that has this aspect."""
    excess = width / height / aspect
    if abs(excess - 1) < _UNSEEN:
        return 0, 0, width, height
    shown_width, shown_height = min(width, width / excess), min(height, height * excess)
    left, top = (width - shown_width) / 2, (height - shown_height) / 2
    return left, top, left + shown_width, top + shown_height
