"""The sound of a video file, a stretch at a time. No torch here."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from services.gpu_worker.engine.footage import readable

SAMPLES_A_SECOND = 48_000
LAYOUT = "stereo"
FORMAT = "fltp"
_CHANNELS = 2

# (2, samples), -1 to 1.
Samples = npt.NDArray[np.float32]


def samples_until(frame: int, fps: int) -> int:
    """How many samples there are before this frame: no rounding adds up over a long video."""
    return frame * SAMPLES_A_SECOND // fps


class Sound:
    """A file's sound from a moment on: silence where there is none, and after its end."""

    def __init__(self, file: Path, begins: Fraction) -> None:
        self._decoded = _decode(file, begins)
        self._held = _silence(0)

    def take(self, samples: int) -> Samples:
        """The next so many samples."""
        while self._held.shape[1] < samples:
            more = next(self._decoded, None)
            if more is None:
                more = _silence(samples - self._held.shape[1])
            self._held = np.concatenate([self._held, more], axis=1)
        taken, self._held = self._held[:, :samples], self._held[:, samples:]
        return taken


def _decode(file: Path, begins: Fraction) -> Iterator[Samples]:
    resampler = av.AudioResampler(format=FORMAT, layout=LAYOUT, rate=SAMPLES_A_SECOND)
    with readable(), av.open(str(file)) as container:
        stream = container.streams.audio[0]
        position = None  # of the next sample, counted from the moment that was asked for
        for frame in chain(container.decode(stream), [None]):  # None: give what you still hold
            if position is None and frame is not None:
                heard_at = (frame.pts or 0) * Fraction(frame.time_base or 0)
                position = round((heard_at - begins) * SAMPLES_A_SECOND)
                yield _silence(max(position, 0))
            for resampled in resampler.resample(frame):
                samples = resampled.to_ndarray().astype(np.float32, copy=False)
                yield samples[:, max(-(position or 0), 0) :]
                position = (position or 0) + samples.shape[1]


def _silence(samples: int) -> Samples:
    return np.zeros((_CHANNELS, samples), np.float32)
