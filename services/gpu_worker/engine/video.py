"""Frames to a file: an MP4 that plays everywhere. No torch here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from services.gpu_worker.backends.backend import Picture
from services.gpu_worker.engine.sound import FORMAT, LAYOUT, SAMPLES_A_SECOND, Samples
from shared.catalog import Size
from shared.complete_file import complete_or_absent
from shared.errors import InvalidRequest

# The index comes first, so that a player starts at once.
CONTAINER_OPTIONS = {"movflags": "+faststart"}

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
_AAC_BITS_A_SECOND = 192_000
_LANCZOS = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


@dataclass(frozen=True)
class Moment:
    """What is seen, and perhaps heard, for the time of one frame."""

    picture: Picture = field(repr=False)
    sound: Samples | None = field(default=None, repr=False)


def encode_video(
    frames: Iterable[Picture],
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
    moments = (Moment(picture) for picture in frames)
    encode_moments(moments, path, fps=fps, size=size, with_sound=False, on_frame=on_frame)


def encode_moments(
    moments: Iterable[Moment],
    path: Path,
    *,
    fps: int,
    size: Size,
    with_sound: bool,
    on_frame: Callable[[int], None] = lambda _: None,
) -> None:
    """As ``encode_video``; with AAC sound if every moment has some."""
    if size.width % 2 or size.height % 2:
        raise InvalidRequest(f"A video's width and height must be even, not {size}.")
    with (
        complete_or_absent(path) as partial,
        av.open(str(partial), "w", format="mp4", options=CONTAINER_OPTIONS) as container,
    ):
        video = _add_video(container, fps, size)
        audio = _add_audio(container) if with_sound else None
        heard = 0
        for index, moment in enumerate(moments):
            container.mux(video.encode(_to_yuv(moment.picture, size, index=index, fps=fps)))
            if audio is not None and moment.sound is not None:
                container.mux(audio.encode(_to_audio(moment.sound, heard)))
                heard += moment.sound.shape[1]
            on_frame(index + 1)
        container.mux(video.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))


def _add_video(container: OutputContainer, fps: int, size: Size) -> VideoStream:
    stream = container.add_stream("libx264", rate=fps, options=_X264_OPTIONS)
    stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
    codec = stream.codec_context
    codec.time_base = Fraction(1, fps)
    codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
    codec.color_range = ColorRange.MPEG
    return stream


def _add_audio(container: OutputContainer) -> AudioStream:
    stream = container.add_stream("aac", rate=SAMPLES_A_SECOND)
    stream.codec_context.layout = LAYOUT
    stream.codec_context.bit_rate = _AAC_BITS_A_SECOND
    return stream


def _to_yuv(pixels: Picture, size: Size, *, index: int, fps: int) -> av.VideoFrame:
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


def _to_audio(samples: Samples, heard: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), FORMAT, LAYOUT)
    frame.sample_rate = SAMPLES_A_SECOND
    frame.pts, frame.time_base = heard, Fraction(1, SAMPLES_A_SECOND)
    return frame
