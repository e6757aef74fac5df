"""Looking into a clip that a test was given."""

from io import BytesIO

import av


def opened(clip: bytes):
    return av.open(BytesIO(clip))


def frame_colour(clip: bytes, index: int) -> tuple[float, ...]:
    """The mean colour of one frame; -1 is the last."""
    with opened(clip) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return tuple(frames[index].mean(axis=(0, 1)))
