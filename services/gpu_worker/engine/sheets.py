"""Pictures that tell what is in a video file: a poster, a spritesheet, the seams. No torch here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from services.gpu_worker.backends.backend import Picture
from services.gpu_worker.engine.footage import look_into, pictures_at
from services.gpu_worker.engine.pictures import save_jpeg
from services.gpu_worker.engine.seams_sheet import SeamsSheet
from shared.catalog import Size

SPRITESHEET_TILES = 5  # a row, and a column
_TILE_WIDTH_PIXELS = 208


@dataclass(frozen=True)
class Sheets:
    """Where the pictures go, all made while the video is decoded once."""

    poster: Path
    spritesheet: Path
    seams: Path | None = None  # None, or a video without seams: not made


@dataclass(frozen=True)
class SheetSizes:
    poster: Size
    spritesheet: Size
    seams: Size | None


def save_sheets(
    file: Path,
    sheets: Sheets,
    *,
    size: Size,
    fps: int,
    seams: Sequence[int] = (),
    on_picture: Callable[[], None] = lambda: None,
) -> SheetSizes:
    """Write what ``save_poster``, ``save_spritesheet`` and ``save_seams`` write, in one pass.

    ``on_picture`` is called at every frame that is drawn; what it raises leaves no file behind.
    Raises ``RenderCrashed`` for a file that cannot be read.
    """
    frames = look_into(file).frames
    poster, spritesheet = _Poster(frames, size), _Spritesheet(frames, size)
    seams_sheet = SeamsSheet(frames, seams, fps) if sheets.seams and seams else None
    _show(file, [poster, spritesheet, *([seams_sheet] if seams_sheet else [])], on_picture)
    return SheetSizes(
        poster=poster.save(sheets.poster),
        spritesheet=spritesheet.save(sheets.spritesheet),
        seams=seams_sheet.save(sheets.seams) if seams_sheet and sheets.seams else None,
    )


def save_poster(file: Path, target: Path, size: Size) -> Size:
    """Write a video file's middle frame as a JPEG of this size."""
    poster = _Poster(look_into(file).frames, size)
    _show(file, [poster])
    return poster.save(target)


def save_spritesheet(file: Path, target: Path, size: Size) -> Size:
    """Write a JPEG of tiles, row by row, evenly spread over a video file; return its size.

    ``size`` is the video's, whose shape the tiles have. A video of fewer frames than tiles repeats
    some.
    """
    spritesheet = _Spritesheet(look_into(file).frames, size)
    _show(file, [spritesheet])
    return spritesheet.save(target)


def save_seams(file: Path, target: Path, seams: Sequence[int], fps: int) -> Size:
    """Write a PNG that shows the frames before and after each seam; return its size.

    ``seams`` are the first frames of the segments but the first.
    """
    sheet = SeamsSheet(look_into(file).frames, seams, fps)
    _show(file, [sheet])
    return sheet.save(target)


class _Sheet(Protocol):
    """Picks what it needs from the frames that come by, and keeps it small."""

    @property
    def wanted(self) -> frozenset[int]: ...

    def show(self, index: int, picture: Picture) -> None: ...


def _show(
    file: Path, sheets: Sequence[_Sheet], on_picture: Callable[[], None] = lambda: None
) -> None:
    wanted = sorted(frozenset().union(*(sheet.wanted for sheet in sheets)))
    for index, picture in zip(wanted, pictures_at(file, wanted), strict=True):
        on_picture()
        for sheet in sheets:
            if index in sheet.wanted:
                sheet.show(index, picture)


class _Poster:
    def __init__(self, frames: int, size: Size) -> None:
        self.wanted = frozenset({frames // 2})
        self._size = size
        self._image = Image.new("RGB", (size.width, size.height))

    def show(self, _index: int, picture: Picture) -> None:
        self._image = _resize(picture, self._size)

    def save(self, target: Path) -> Size:
        save_jpeg(self._image, target)
        return self._size


class _Spritesheet:
    def __init__(self, frames: int, size: Size) -> None:
        places = np.linspace(0, frames - 1, SPRITESHEET_TILES**2).round().astype(int)
        self._places = [int(index) for index in places]
        self._tile = Size(_TILE_WIDTH_PIXELS, round(_TILE_WIDTH_PIXELS * size.height / size.width))
        self._size = Size(
            self._tile.width * SPRITESHEET_TILES, self._tile.height * SPRITESHEET_TILES
        )
        self._image = Image.new("RGB", (self._size.width, self._size.height))

    @property
    def wanted(self) -> frozenset[int]:
        return frozenset(self._places)

    def show(self, index: int, picture: Picture) -> None:
        image = _resize(picture, self._tile)
        for place, shown in enumerate(self._places):
            if shown == index:
                row, column = divmod(place, SPRITESHEET_TILES)
                self._image.paste(image, (column * self._tile.width, row * self._tile.height))

    def save(self, target: Path) -> Size:
        save_jpeg(self._image, target)
        return self._size


def _resize(picture: Picture, size: Size) -> Image.Image:
    image = Image.fromarray(picture)
    return image.resize((size.width, size.height), Image.Resampling.LANCZOS)
