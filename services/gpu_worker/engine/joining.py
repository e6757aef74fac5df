"""A long video is made of pieces; here they become one file. No torch here."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import ceil
from pathlib import Path

import numpy as np

from services.gpu_worker.backends.backend import Picture
from services.gpu_worker.engine.footage import Footage, frame_at, look_into, pictures_at
from services.gpu_worker.engine.pictures import fit
from services.gpu_worker.engine.remuxing import ON_TIME, plan_remux, remux
from services.gpu_worker.engine.sound import Samples, Sound, samples_until
from services.gpu_worker.engine.video import Moment, encode_moments
from shared.catalog import Size
from shared.errors import InvalidRequest, RenderCrashed


@dataclass(frozen=True)
class Piece:
    """A part of a video, as a file: an MP4 of ours or a provider's, perhaps with sound.

    Its frames are counted as they are shown, at the joined video's rate.
    """

    file: Path
    skip: int = 0  # frames at its beginning that repeat how the piece before ended, not shown
    frames: int | None = None  # how many are shown after those, at most; None: all there are


@dataclass(frozen=True)
class Joined:
    """What ``join_pieces`` wrote."""

    frames: int
    seams: tuple[int, ...]  # the first frame of each piece but the first, in the joined video
    remuxed: bool  # packets were copied: no loss, no time


def join_pieces(
    pieces: Sequence[Piece],
    target: Path,
    *,
    fps: int,
    size: Size,
    crossfade_frames: int = 0,
    on_frame: Callable[[int, int], None] = lambda _done, _of: None,
) -> Joined:
    """Write the pieces as one MP4, index first; the same pieces give the same bytes.

    Packets are copied where that shows the very same; else every frame is encoded again, covers
    ``size`` and comes at ``fps``. ``crossfade_frames`` is by how much two pieces overlap. The video
    has sound if every piece has. ``on_frame`` gets how many frames are done, of how many; what it
    raises leaves no file behind.

    Raises ``InvalidRequest`` for pieces too short for their crossfades, ``RenderCrashed`` for one
    that cannot be read.
    """
    footages = [look_into(piece.file) for piece in pieces]
    shown = [_shown(*both, fps) for both in zip(pieces, footages, strict=True)]
    overlap = crossfade_frames if len(pieces) > 1 else 0
    _require_length(shown, overlap)
    starts = list(accumulate((len(it) - overlap for it in shown), initial=0))
    total = starts.pop() + overlap
    seams = tuple(starts[1:])

    def report(done: int) -> None:
        on_frame(done, total)

    whole = all(it == list(range(one.frames)) for it, one in zip(shown, footages, strict=True))
    plan = plan_remux(footages, fps=fps, size=size) if whole and not overlap else None
    if plan:
        remux(plan, target, report)
        return Joined(total, seams, remuxed=True)
    with_sound = all(footage.audio for footage in footages)
    shots = [
        _Shot(footage, tuple(indices), start, piece.skip, fps, size, with_sound)
        for piece, footage, indices, start in zip(pieces, footages, shown, starts, strict=True)
    ]
    moments = _crossfaded(shots, overlap)
    encode_moments(moments, target, fps=fps, size=size, with_sound=with_sound, on_frame=report)
    return Joined(total, seams, remuxed=False)


def last_shown(piece: Piece, *, fps: int) -> Picture:
    """The frame that a piece ends with in a video of this rate. Raises ``RenderCrashed``."""
    return frame_at(piece.file, _shown(piece, look_into(piece.file), fps)[-1])


@dataclass(frozen=True)
class _Shot:
    """A piece as it is shown."""

    footage: Footage
    indices: tuple[int, ...]  # of the file's frames
    start: int  # its first frame, in the joined video
    skip: int
    fps: int
    size: Size
    with_sound: bool

    def moments(self) -> Iterator[Moment]:
        footage, fps = self.footage, self.fps
        sound = None
        if self.with_sound:
            sound = Sound(footage.file, footage.begins + Fraction(self.skip, fps))
        pictures = pictures_at(footage.file, self.indices)
        for frame, picture in enumerate(pictures, self.start):
            samples = samples_until(frame + 1, fps) - samples_until(frame, fps)
            yield Moment(fit(picture, self.size), sound.take(samples) if sound else None)


def _shown(piece: Piece, footage: Footage, fps: int) -> list[int]:
    """For each frame of the joined video: which of the file's is on at that time."""
    available = ceil(footage.seconds * fps - ON_TIME)
    last = available if piece.frames is None else min(available, piece.skip + piece.frames)
    moments = ((frame + ON_TIME) / fps for frame in range(piece.skip, last))
    indices = [bisect_right(footage.times, moment) - 1 for moment in moments]
    if not indices:
        raise RenderCrashed("A rendered file holds no frame that is to be shown.")
    return indices


def _require_length(shown: Sequence[list[int]], overlap: int) -> None:
    """Each end that fades needs its frames for itself."""
    for number, indices in enumerate(shown, 1):
        fades = 2 if 1 < number < len(shown) else 1
        if len(indices) < fades * overlap:
            raise InvalidRequest(
                f"Segment {number} shows {len(indices)} frames, and its crossfades need "
                f"{fades * overlap}: make it longer or the crossfade shorter."
            )


def _crossfaded(shots: Iterable[_Shot], overlap: int) -> Iterator[Moment]:
    """One moment after the other; as many as overlap are held."""
    held: deque[Moment] = deque()
    for shot in shots:
        moments = shot.moments()
        for step, (old, new) in enumerate(zip(held, moments, strict=False)):
            yield _blend(old, new, step, overlap)
        held.clear()
        for moment in moments:
            held.append(moment)
            if len(held) > overlap:
                yield held.popleft()
    yield from held


def _blend(old: Moment, new: Moment, step: int, steps: int) -> Moment:
    picture = _mix(old.picture, new.picture, (step + 1) / (steps + 1)).round().astype(np.uint8)
    if old.sound is None or new.sound is None:
        return Moment(picture)
    # Sound is finer than frames: a weight that jumped with them would be heard.
    samples = new.sound.shape[1]
    ramp = (step + np.arange(samples, dtype=np.float32) / samples) / steps
    return Moment(picture, _mix(old.sound, new.sound, ramp))


def _mix(old: Picture | Samples, new: Picture | Samples, weight: float | Samples) -> Samples:
    mixed: Samples = old * np.float32(1) * (1 - weight) + new * weight
    return mixed.astype(np.float32)
