"""The video that everybody "renders": small, fixed, and a real MP4."""

from pathlib import Path

import av
import numpy as np

_FRAMES, _FPS, _WIDTH, _HEIGHT = 17, 16, 416, 240


def make_clip(file: Path) -> Path:
    """A square that moves to the left on navy: a second of it, a few kilobytes."""
    with av.open(str(file), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for number in range(_FRAMES):
            picture = np.full((_HEIGHT, _WIDTH, 3), (0, 0, 64), np.uint8)
            left = _WIDTH - 60 - 16 * number
            picture[90:150, left : left + 60] = (200, 30, 30)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return file
