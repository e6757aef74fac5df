"""Files for schemathesis: what the API takes of them are pictures, and random bytes are none."""

import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def picture(name: str, width: int, height: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(content, name)
    return content.getvalue()


sides = strategies.integers(min_value=1, max_value=64)
names = strategies.sampled_from(["JPEG", "PNG", "WEBP"])
schemathesis.openapi.format("binary", strategies.builds(picture, names, sides, sides))
