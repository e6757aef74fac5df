"""Bars of stacked seconds, drawn with Pillow: no plotting library is needed for so little."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_COLORS = ("#9aa5b1", "#3e7cb1", "#f2a541")
_LEFT, _TOP, _WIDTH, _BAR, _GROUP = 130, 50, 520, 22, 70

# What was measured, by whom, in which stage: seconds.
Groups = Mapping[str, Mapping[str, Mapping[str, float]]]


def draw_bars(groups: Groups, file: Path) -> None:
    """A group's longest bar takes the whole width: what can be compared is within a group."""
    font = ImageFont.load_default(14)
    image = Image.new("RGB", (860, _TOP + _GROUP * len(groups)), "white")
    pen = ImageDraw.Draw(image)
    stages = next(iter(next(iter(groups.values())).values()))
    for column, (stage, color) in enumerate(zip(stages, _COLORS, strict=False)):
        x = _LEFT + 120 * column
        pen.rectangle((x, 14, x + 14, 28), fill=color)
        pen.text((x + 20, 12), stage, "black", font)
    for row, (name, bars) in enumerate(groups.items()):
        top = _TOP + row * _GROUP
        pen.text((10, top + 14), name, "black", font)
        longest = max(sum(seconds.values()) for seconds in bars.values())
        for line, (label, seconds) in enumerate(bars.items()):
            x, y = float(_LEFT), top + line * (_BAR + 2)
            for share, color in zip(seconds.values(), _COLORS, strict=False):
                width = _WIDTH * share / longest
                pen.rectangle((x, y, x + width, y + _BAR), fill=color)
                x += width
            pen.text((x + 8, y + 3), f"{label} {sum(seconds.values()):.2f} s", "black", font)
    image.save(file)
