"""What the models of our Replicate make: real pictures whose colours are drawn from what was asked."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from PIL import Image, ImageDraw, UnidentifiedImageError

from services.emulators.replicate_errors import invalid

# A quarter of nano-banana's own width and height: tests wait for less.
_SIZES: Mapping[str, tuple[int, int]] = MappingProxyType({
    "1:1": (256, 256), "2:3": (208, 312), "3:2": (312, 208), "3:4": (216, 296),
    "4:3": (296, 216), "4:5": (224, 288), "5:4": (288, 224), "9:16": (192, 336),
    "16:9": (336, 192), "21:9": (384, 168),
})  # fmt: skip
_MATCHING = "match_input_image"

MIME_TYPES = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}

_FIELDS = {"prompt", "image_input", "output_format", "aspect_ratio"}


def check_input(given: object) -> None:
    """As nano-banana does; what it does not know it refuses: ignoring it would be a lie."""
    if not isinstance(given, dict):
        raise invalid("- input: Invalid type")
    for unknown in set(given) - _FIELDS:
        raise invalid(f"- input: Additional property {unknown} is not allowed")
    if not isinstance(given.get("prompt"), str) or not given["prompt"]:
        raise invalid("- input: prompt is required")
    if given.get("output_format", "jpg") not in ("jpg", "png"):
        raise invalid('- input.output_format: must be one of "jpg", "png"')
    if given.get("aspect_ratio", _MATCHING) not in (_MATCHING, *_SIZES):
        raise invalid("- input.aspect_ratio: is not one of those that are known")
    pictures = given.get("image_input", [])
    if not isinstance(pictures, list):
        raise invalid("- input.image_input: Invalid type")
    for picture in pictures:
        _check_picture(picture)


def draw(given: Mapping[str, Any], number: int, *, format: str, size: tuple[int, int]) -> bytes:  # noqa: A002 - as at Replicate
    """Another picture for another prompt or number, and the same for the same."""
    seed = f"{given['prompt']}\n{number}".encode()
    image = Image.new("RGB", size, _colour_of(seed))
    corners = (size[0] // 4, size[1] // 4, size[0] * 3 // 4, size[1] * 3 // 4)
    ImageDraw.Draw(image).ellipse(corners, fill=_colour_of(seed + b"circle"))
    file = BytesIO()
    image.save(file, _FORMATS[format])
    return file.getvalue()


def size_of(given: Mapping[str, Any]) -> tuple[int, int]:
    """The one that was asked for; the first input's only where it was sent and not linked to."""
    ratio = given.get("aspect_ratio", _MATCHING)
    if ratio != _MATCHING:
        return _SIZES[ratio]
    first = next(iter(given.get("image_input", [])), "")
    if not first.startswith("data:"):
        return _SIZES["1:1"]
    with Image.open(BytesIO(_sent(first))) as image:
        return image.size


def _check_picture(uri: object) -> None:
    if (
        isinstance(uri, str)
        and urlsplit(uri).scheme in ("http", "https")
        and urlsplit(uri).hostname
    ):
        return
    if not isinstance(uri, str) or not uri.startswith("data:"):
        raise invalid("- input.image_input: Does not match format 'uri'")
    try:
        with Image.open(BytesIO(_sent(uri))) as image:
            image.verify()
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError):
        raise invalid("- input.image_input: is no picture") from None


def _sent(uri: str) -> bytes:
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


def _colour_of(seed: bytes) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(seed).digest()[:3]
    return red, green, blue
