"""Frames to files: an MP4 that plays everywhere, a poster, a spritesheet. No torch here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from PIL import Image

from services.gpu_worker.backends.backend import Frames
from shared.catalog import Size
from shared.errors import InvalidRequest

SPRITESHEET_TILES = 5  # a row, and a column
_TILE_WIDTH_PIXELS = 208
_JPEG_QUALITY = 88

_BT709 = 1  # the number of BT.709 in ISO/IEC 23091-2, for primaries, transfer and matrix alike

_X264_OPTIONS = {
    "preset": "veryfast",
    "crf": "22",
    # x264 writes its settings into the file: a fixed count keeps it the same on every machine.
    "threads": "2",
    # With macroblock trees x264 reads memory it never wrote on CPUs with AVX-512, and the same
    # frames give other bytes. Without them crf 22 looks and weighs like crf 20 with them.
    "x264-params": "no-mbtree=1",
}
_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def encode_video(
    frames: Frames,
    path: Path,
    *,
    fps: int,
    size: Size,
    on_frame: Callable[[int], None] = lambda _: None,
) -> None:
    """Write H.264 in an MP4 whose index comes first; the same frames give the same bytes.

    ``on_frame`` gets the number of frames encoded so far; what it raises leaves no file behind.
    Raises ``InvalidRequest`` for an odd size, which yuv420p cannot hold.
    """
    if size.width % 2 or size.height % 2:
        raise InvalidRequest(f"A video's width and height must be even, not {size}.")
    with (
        _complete_or_absent(path) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=fps, options=_X264_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, fps)
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = ColorRange.MPEG
        for index, pixels in enumerate(frames):
            container.mux(stream.encode(_to_yuv(pixels, size, index=index, fps=fps)))
            on_frame(index + 1)
        container.mux(stream.encode(None))


def save_poster(frames: Frames, path: Path, *, size: Size) -> None:
    """Write the middle frame as a JPEG of this size."""
    _save_jpeg(_resize(frames[len(frames) // 2], size), path)


def save_spritesheet(frames: Frames, path: Path, *, size: Size) -> Size:
    """Write a JPEG of tiles, row by row, evenly spread over the clip; return its size.

    A clip of fewer frames than tiles repeats some.
    """
    tile = Size(_TILE_WIDTH_PIXELS, round(_TILE_WIDTH_PIXELS * size.height / size.width))
    sheet = Size(tile.width * SPRITESHEET_TILES, tile.height * SPRITESHEET_TILES)
    image = Image.new("RGB", (sheet.width, sheet.height))
    shown = np.linspace(0, len(frames) - 1, SPRITESHEET_TILES**2).round().astype(int)
    for place, index in enumerate(shown):
        row, column = divmod(place, SPRITESHEET_TILES)
        image.paste(_resize(frames[index], tile), (column * tile.width, row * tile.height))
    _save_jpeg(image, path)
    return sheet


def _to_yuv(pixels: Frames, size: Size, *, index: int, fps: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame = frame.reformat(
        width=size.width,
        height=size.height,
        format="yuv420p",
        interpolation=_LANCZOS,
        dst_colorspace=Colorspace.ITU709,
        dst_color_range=ColorRange.MPEG,
        threads=1,  # a frame this small takes longer to share out than to scale
    )
    frame.pts, frame.time_base = index, Fraction(1, fps)
    return frame


def _resize(pixels: Frames, size: Size) -> Image.Image:
    return Image.fromarray(pixels).resize((size.width, size.height), Image.Resampling.LANCZOS)


def _save_jpeg(image: Image.Image, path: Path) -> None:
    with _complete_or_absent(path) as partial:
        image.save(partial, format="JPEG", quality=_JPEG_QUALITY, optimize=True)


@contextmanager
def _complete_or_absent(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``path`` when all went well and is removed otherwise."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
