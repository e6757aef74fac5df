"""What is seen in a video: plain vision on its pixels, which knows nothing of how they were made."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from training.world import BACKGROUNDS, COLOURS

Pixels = npt.NDArray[np.float64]  # (height, width, 3) of 0 to 255
Mask = npt.NDArray[np.bool_]

_SEEN = 60.0  # how far a pixel's colour is from what is behind, to be the object's
_SMALLEST = 150  # pixels of an object, of 832x480 scaled down to a width of 416
_LARGEST = 0.4  # of a frame
_WIDTH = 416
_BORDER = 6
_LOOKS = 9  # frames looked at, evenly spaced

# Of the width of a frame, or shares of the object; between what moves and what trembles.
_MOVED = 0.03  # a 17th of a second clip's way is 0.11 across, 0.06 down
_GREW = 1.18
_TURNED = 0.85  # the overlap of the object with itself, below which it has turned


@dataclass(frozen=True)
class Seen:
    """``None`` where nothing could be made out."""

    colour: str | None
    background: str | None
    shape: str | None
    motion: str | None


@dataclass(frozen=True)
class _Look:
    """The object in one frame; lengths in pixels."""

    mask: Mask
    x: float
    y: float
    area: float


def look_at(video: Path) -> Seen:
    """Judge an MP4 by its decoded frames."""
    return judge(read_frames(video))


def read_frames(video: Path) -> list[Pixels]:
    """All frames, 416 pixels wide."""
    with av.open(str(video)) as container:
        return [
            frame.to_ndarray(
                width=_WIDTH, height=round(_WIDTH * frame.height / frame.width), format="rgb24"
            ).astype(np.float64)
            for frame in container.decode(video=0)
        ]


def judge(frames: list[Pixels]) -> Seen:
    chosen = np.linspace(0, len(frames) - 1, min(_LOOKS, len(frames))).round().astype(int)
    pictures = [frames[index] for index in chosen]
    behind = np.median(np.stack([_border(picture) for picture in pictures]).reshape(-1, 3), axis=0)
    background = nearest(behind, BACKGROUNDS)
    looks = [_find(picture, behind) for picture in pictures]
    found = [look for look in looks if look is not None]
    if len(found) < max(2, len(looks) - 1):
        return Seen(None, background, None, None)
    colour = _colour(pictures, looks)
    shapes = [shape_of(look.mask) for look in found]
    return Seen(
        colour=nearest(colour, COLOURS),
        background=background,
        shape=max(set(shapes), key=shapes.count),
        motion=_motion(found),
    )


def nearest(colour: npt.NDArray[np.float64], named: object) -> str:
    """The name of the nearest of the named colours."""
    items = dict(named)  # type: ignore[call-overload]
    return min(items, key=lambda name: float(np.linalg.norm(colour - np.array(items[name]))))


def _border(picture: Pixels) -> npt.NDArray[np.float64]:
    sides = (
        picture[:_BORDER].reshape(-1, 3),
        picture[-_BORDER:].reshape(-1, 3),
        picture[:, :_BORDER].reshape(-1, 3),
        picture[:, -_BORDER:].reshape(-1, 3),
    )
    return np.median(np.concatenate(sides), axis=0)


def _find(picture: Pixels, behind: npt.NDArray[np.float64]) -> _Look | None:
    distance = np.linalg.norm(picture - behind, axis=-1)
    # Half as far as the object itself: the edge is where half of it shows.
    top = float(np.quantile(distance, 0.995))
    if top < _SEEN:
        return None
    mask = largest_piece(distance > top / 2)
    area = float(mask.sum())
    if not _SMALLEST < area < _LARGEST * mask.size:
        return None
    rows, columns = np.nonzero(mask)
    return _Look(mask, float(columns.mean()), float(rows.mean()), area)


def largest_piece(mask: Mask) -> Mask:
    """The largest part of a mask that hangs together, side by side."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        wider = labels.copy()
        wider[1:] = np.maximum(wider[1:], labels[:-1])
        wider[:-1] = np.maximum(wider[:-1], labels[1:])
        wider[:, 1:] = np.maximum(wider[:, 1:], labels[:, :-1])
        wider[:, :-1] = np.maximum(wider[:, :-1], labels[:, 1:])
        wider[~mask] = 0
        # Along a row or column at once: a piece is labelled in a few rounds.
        if np.array_equal(wider, labels):
            break
        labels = wider
    names, counts = np.unique(labels[labels > 0], return_counts=True)
    if not len(names):
        return mask
    piece: Mask = labels == names[counts.argmax()]
    return piece


def _colour(pictures: list[Pixels], looks: list[_Look | None]) -> npt.NDArray[np.float64]:
    inside = []
    for picture, look in zip(pictures, looks, strict=True):
        if look is not None:
            rows, columns = np.nonzero(look.mask)
            near = np.hypot(rows - look.y, columns - look.x) < 0.5 * np.sqrt(look.area / np.pi)
            inside.append(picture[rows[near], columns[near]])
    return np.median(np.concatenate(inside), axis=0)


def outline(mask: Mask, angles: int = 180) -> npt.NDArray[np.float64]:
    """How far the object reaches in each direction from its middle, over its mean radius."""
    rows, columns = np.nonzero(mask)
    y, x = rows.mean(), columns.mean()
    directions = np.linspace(0, 2 * np.pi, angles, endpoint=False)
    steps = np.arange(0, max(mask.shape), 0.5)
    at_y = np.clip(
        (y + np.outer(np.sin(directions), steps)).round().astype(int), 0, mask.shape[0] - 1
    )
    at_x = np.clip(
        (x + np.outer(np.cos(directions), steps)).round().astype(int), 0, mask.shape[1] - 1
    )
    reach: npt.NDArray[np.float64] = mask[at_y, at_x].sum(axis=1) * 0.5
    return reach / np.sqrt(mask.sum() / np.pi)


def shape_of(mask: Mask) -> str:
    """By how often the outline goes out and in on the way around: 3, 4 and 5 times, or not at all."""
    waves = np.abs(np.fft.rfft(outline(mask))) / 90
    strength = {"triangle": waves[3], "square": waves[4], "star": waves[5]}
    best = max(strength, key=lambda name: strength[name])
    return best if strength[best] > _WAVES[best] else "circle"


_WAVES = {"triangle": 0.12, "square": 0.06, "star": 0.12}


def _motion(looks: list[_Look]) -> str:
    first, last = looks[0], looks[-1]
    across, down = (last.x - first.x) / _WIDTH, (last.y - first.y) / _WIDTH
    x = np.array([look.x for look in looks]) / _WIDTH
    y = np.array([look.y for look in looks]) / _WIDTH
    growth = last.area / first.area
    if growth > _GREW**2 or growth < 1 / _GREW**2:
        return "grow" if growth > 1 else "shrink"
    if np.ptp(x) > _MOVED and np.ptp(x) > np.ptp(y):
        return "right" if across > 0 else "left"
    if np.ptp(y) > _MOVED:
        if _turns_back(y):
            return "bounce"
        return "down" if down > 0 else "up"
    overlap = min(_overlap(first, look) for look in looks[1:])
    return "rotate" if overlap < _TURNED else "still"


def _turns_back(y: npt.NDArray[np.float64]) -> bool:
    """It comes back by a good part of its way, or does not keep its pace."""
    way = np.abs(np.diff(y)).sum()
    return bool(way > 1.35 * abs(y[-1] - y[0]))


def _overlap(one: _Look, other: _Look) -> float:
    """Shared pixels over all, once one lies on the other."""
    best = 0.0
    shift_y, shift_x = round(one.y - other.y), round(one.x - other.x)
    for more_y, more_x in itertools.product((-1, 0, 1), repeat=2):
        moved = np.roll(other.mask, (shift_y + more_y, shift_x + more_x), axis=(0, 1))
        best = max(best, float((one.mask & moved).sum() / (one.mask | moved).sum()))
    return best
