"""A contact sheet of a video's seams: what is before each, and what comes after. No torch here."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from services.gpu_worker.backends.backend import Picture
from shared.catalog import Size
from shared.complete_file import complete_or_absent

SEAM_FRAMES = 4  # on either side of a seam

# Pixels.
_TILE = 208  # its longer side
_MARGIN = 32
_GAP = 10
_SEAM_GAP = 36
_LABEL_HEIGHT = 40
_CAPTION_HEIGHT = 26
_ROW_GAP = 28
_LABEL_SIZE, _CAPTION_SIZE = 20, 15
_WORD_GAP = 12
_ARROW_LENGTH = 18

# A neutral ground: beside a colour, a person sees another one.
_GROUND = (28, 28, 28)
_EMPTY = (40, 40, 40)
_BRIGHT = (235, 235, 235)
_DIM = (150, 150, 150)
_SEAM = (255, 176, 0)


class SeamsSheet:
    """A row a seam; it gets the wanted frames, keeps them as tiles, and becomes a PNG."""

    def __init__(self, frames: int, seams: Sequence[int], fps: int) -> None:
        self._frames = frames
        self._seams = tuple(seams)
        self._fps = fps
        self._tiles: dict[int, Image.Image] = {}

    @property
    def wanted(self) -> frozenset[int]:
        return frozenset(
            index
            for seam in self._seams
            for index in range(seam - SEAM_FRAMES, seam + SEAM_FRAMES)
            if 0 <= index < self._frames
        )

    def show(self, index: int, picture: Picture) -> None:
        image = Image.fromarray(picture)
        scale = _TILE / max(image.size)
        size = round(image.width * scale), round(image.height * scale)
        self._tiles[index] = image.resize(size, Image.Resampling.LANCZOS)

    def save(self, target: Path) -> Size:
        """Raises ``ValueError`` for a sheet that has been shown nothing."""
        if not self._tiles:
            raise ValueError("a seams sheet needs a seam, and its frames")
        tile = next(iter(self._tiles.values())).size
        row_height = _LABEL_HEIGHT + tile[1] + _CAPTION_HEIGHT + _ROW_GAP
        size = Size(
            2 * _MARGIN + 2 * _side_width(tile[0]) + _SEAM_GAP,
            2 * _MARGIN + row_height * len(self._seams) - _ROW_GAP,
        )
        sheet = Image.new("RGB", (size.width, size.height), _GROUND)
        draw = ImageDraw.Draw(sheet)
        for row, seam in enumerate(self._seams):
            top = _MARGIN + row * row_height
            self._draw_label(draw, row, seam, top, size.width)
            self._draw_row(sheet, draw, seam, top + _LABEL_HEIGHT, tile)
        with complete_or_absent(target) as partial:
            sheet.save(partial, format="PNG")
        return size

    def _draw_label(
        self, draw: ImageDraw.ImageDraw, row: int, seam: int, top: int, width: int
    ) -> None:
        font = ImageFont.load_default(size=_LABEL_SIZE)
        title = f"seam {row + 1} of {len(self._seams)}"
        end = _write(draw, (_MARGIN, top), title, font, _BRIGHT)
        end = _write(draw, (end, top), f"segment {row + 1}", font, _DIM)
        end = _draw_arrow(draw, end - _WORD_GAP // 2, top)
        draw.text((end, top), f"{row + 2}", _DIM, font)
        moment = f"frame {seam} at {seam / self._fps:.2f} s"
        draw.text((width - _MARGIN, top), moment, _DIM, font, anchor="ra")

    def _draw_row(
        self,
        sheet: Image.Image,
        draw: ImageDraw.ImageDraw,
        seam: int,
        top: int,
        tile: tuple[int, int],
    ) -> None:
        font = ImageFont.load_default(size=_CAPTION_SIZE)
        width, height = tile
        for place, index in enumerate(range(seam - SEAM_FRAMES, seam + SEAM_FRAMES)):
            left = _MARGIN + place * (width + _GAP)
            if index >= seam:
                left += _SEAM_GAP - _GAP
            if index not in self._tiles:
                draw.rectangle((left, top, left + width - 1, top + height - 1), _EMPTY)
                continue
            sheet.paste(self._tiles[index], (left, top))
            below = top + height + 6
            after = _write(draw, (left, below), str(index), font, _BRIGHT)
            draw.text((after, below), f"{index / self._fps:.2f} s", _DIM, font)
        middle = _MARGIN + _side_width(width) + _SEAM_GAP // 2
        bottom = top + height + _CAPTION_HEIGHT
        draw.rectangle((middle - 1, top, middle, bottom), _SEAM)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: tuple[int, int, int],
) -> int:
    """Where the next word may begin."""
    draw.text(place, text, color, font)
    return place[0] + round(draw.textlength(text, font)) + _WORD_GAP


def _draw_arrow(draw: ImageDraw.ImageDraw, left: int, top: int) -> int:
    """Pillow's own font has none. Returns where the next word may begin."""
    right, middle = left + _ARROW_LENGTH, top + _LABEL_SIZE * 3 // 5
    draw.line((left, middle, right, middle), _DIM, width=2)
    for tip in (-5, 5):
        draw.line((right - 5, middle + tip, right, middle), _DIM, width=2)
    return right + _WORD_GAP // 2


def _side_width(tile_width: int) -> int:
    return SEAM_FRAMES * (tile_width + _GAP) - _GAP
