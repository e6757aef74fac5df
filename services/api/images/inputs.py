"""A picture that somebody sent: checked, decoded once, and written anew.

What is passed on holds the pixels, their colour profile, and nothing else of the file: no place where
it was taken, and nothing that another program could take for something else than a picture.
"""

from dataclasses import dataclass
from dataclasses import field as data_field
from io import BytesIO

from shared.errors import InvalidRequest
from shared.images.containers import UnusablePicture
from shared.images.pictures import JPEG_QUALITY, Decoded, decoded

# A tenth more bytes in a third of the time, or less: somebody waits for this.
_PNG_EFFORT = 3
_WEBP_EFFORT = 25  # "quality" is another word for it where nothing is lost

_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


@dataclass(frozen=True, kw_only=True)
class CheckedPicture:
    """A picture to start from, upright. Its ``repr`` is safe to log."""

    content: bytes = data_field(repr=False)
    content_type: str  # "image/jpeg", "image/png", "image/webp"
    extension: str  # "jpg", "png", "webp"
    width: int  # pixels
    height: int


def check_picture(content: bytes, *, field: str, max_bytes: int, max_pixels: int) -> CheckedPicture:
    """The picture in this file, whatever its name and type were said to be.

    Raises ``InvalidRequest``, naming the field, for what is no whole, still JPEG, PNG or WebP within
    the limits. Nothing is decoded before the header has said how many pixels there are.
    """
    what_to_send = f"Send a JPEG, a PNG or a WebP of at most {max_bytes} bytes"
    what_to_send += f" and {max_pixels} pixels."
    if not content:
        raise InvalidRequest(f"The file is empty. {what_to_send}", field=field)
    if len(content) > max_bytes:
        raise InvalidRequest(f"The file has too many bytes. {what_to_send}", field=field)
    try:
        picture = decoded(content, max_pixels=max_pixels)
    except UnusablePicture as unusable:
        raise InvalidRequest(f"{unusable} {what_to_send}", field=field) from None
    width, height = picture.size
    return CheckedPicture(
        content=_encoded(picture),
        content_type=f"image/{picture.kind.lower()}",
        extension=_EXTENSIONS[picture.kind],
        width=width,
        height=height,
    )


def _encoded(picture: Decoded) -> bytes:
    match picture.kind:
        case "JPEG":
            return _as_jpeg(picture)
        case "PNG":
            return _saved(picture, compress_level=_PNG_EFFORT)
        case "WEBP" if picture.lossless:
            # Exact: what is transparent keeps its colours too.
            return _saved(picture, lossless=True, exact=True, quality=_WEBP_EFFORT, method=2)
        case "WEBP":
            return _saved(picture, quality=JPEG_QUALITY)


def _as_jpeg(picture: Decoded) -> bytes:
    """As coarse as it was, which loses next to nothing; else as fine as makes sense."""
    if not picture.turned:
        try:
            return _saved(picture, quality="keep")
        except (OSError, TypeError, ValueError):
            # Some tables can be read, and not be written.
            pass
    return _saved(picture, quality=JPEG_QUALITY)


def _saved(picture: Decoded, **options: object) -> bytes:
    file = BytesIO()
    profile = picture.image.info.get("icc_profile")
    picture.image.save(file, picture.kind, icc_profile=profile, **options)
    return file.getvalue()
