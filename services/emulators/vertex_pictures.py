"""What the models of our Vertex AI make: real files whose colours are drawn from what was asked."""

import base64
import binascii
import hashlib
from fractions import Fraction
from io import BytesIO

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from services.emulators.vertex_errors import invalid

_FPS = 24
_SAMPLES_A_SECOND = 48_000
_TONE_HERTZ = 220
_OPTIONS = {"preset": "ultrafast", "crf": "30"}

# A quarter of Veo's own width and height: every stage after it scales, and tests wait for less.
_CLIP_SIZES = {
    ("16:9", "720p"): (320, 180),
    ("9:16", "720p"): (180, 320),
    ("16:9", "1080p"): (480, 270),
    ("9:16", "1080p"): (270, 480),
}

# Those of Gemini's image models.
_STILL_SIZES = {
    "1:1": (1024, 1024), "2:3": (832, 1248), "3:2": (1248, 832), "3:4": (864, 1184),
    "4:3": (1184, 864), "4:5": (896, 1152), "5:4": (1152, 896), "9:16": (768, 1344),
    "16:9": (1344, 768), "21:9": (1536, 672),
}  # fmt: skip

_Pixels = npt.NDArray[np.uint8]


def picture_sent(content: str) -> bytes:
    """A picture as it came in JSON: base64 with either alphabet, as Google reads it."""
    try:
        return base64.b64decode(content.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error:
        raise invalid("A picture must be base64.") from None


def draw_still(seed: bytes, aspect_ratio: str) -> bytes:
    """A PNG, another one for another seed."""
    size = _STILL_SIZES[aspect_ratio]
    image = Image.new("RGB", size, colour_of(seed))
    square = min(size) // 2
    corner = (size[0] - square) // 2, (size[1] - square) // 2
    box = (*corner, corner[0] + square, corner[1] + square)
    ImageDraw.Draw(image).rectangle(box, fill=colour_of(seed + b"square"))
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def film_clip(
    seed: bytes,
    *,
    seconds: int,
    aspect_ratio: str,
    resolution: str,
    first_frame: bytes | None,
    last_frame: bytes | None,
    sound: bool,
) -> bytes:
    """An MP4 (H.264, AAC if it has sound) that goes from its first frame to its last."""
    size = _CLIP_SIZES[aspect_ratio, resolution]
    first = _frame(first_frame, size, colour_of(seed))
    last = _frame(last_frame, size, colour_of(seed + b"end"))
    count = seconds * _FPS
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=_FPS, options=_OPTIONS)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=_SAMPLES_A_SECOND) if sound else None
        for index in range(count):
            part = index / (count - 1)
            pixels = (first * (1 - part) + last * part).round().astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(_tone(seconds)))
            container.mux(audio.encode(None))
    return file.getvalue()


def colour_of(seed: bytes) -> tuple[int, int, int]:
    """Red, green, blue."""
    red, green, blue = hashlib.sha256(seed).digest()[:3]
    return red, green, blue


def _frame(
    image: bytes | None, size: tuple[int, int], colour: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    picture = Image.new("RGB", size, colour)
    if image is not None:
        with Image.open(BytesIO(image)) as given:
            picture = given.convert("RGB").resize(size)
    return np.asarray(picture, dtype=np.float32)


def _tone(seconds: int) -> av.AudioFrame:
    moments = np.arange(seconds * _SAMPLES_A_SECOND, dtype=np.float32) / _SAMPLES_A_SECOND
    samples = (0.1 * np.sin(2 * np.pi * _TONE_HERTZ * moments)).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="fltp", layout="mono")
    frame.sample_rate = _SAMPLES_A_SECOND
    frame.time_base = Fraction(1, _SAMPLES_A_SECOND)
    return frame
