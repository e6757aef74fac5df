"""Bars of stacked seconds, drawn with Pillow: no plotting library is needed for so little."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_COLORS = ("#9aa5b1", "#3e7cb1", "#f2a541", "#7a5195")
_LEFT, _TOP, _WIDTH, _BAR, _GAP = 130, 50, 500, 24, 22

# What was measured, by whom, in which stage: seconds.
Groups = Mapping[str, Mapping[str, Mapping[str, float]]]


def draw_bars(groups: Groups, file: Path) -> None:
    """A group's longest bar takes the whole width: what can be compared is within a group."""
    font = ImageFont.load_default(14)
    height = _TOP + sum(_BAR * len(bars) + _GAP for bars in groups.values())
    image = Image.new("RGB", (860, height), "white")
    pen = ImageDraw.Draw(image)
    x = float(_LEFT)
    stages = next(iter(next(iter(groups.values())).values()))
    for stage, color in zip(stages, _COLORS, strict=False):
        pen.rectangle((x, 14, x + 14, 28), fill=color)
        pen.text((x + 20, 12), stage, "black", font)
        x += 44 + pen.textlength(stage, font)
    top = _TOP
    for name, bars in groups.items():
        middle = top + (_BAR * len(bars)) / 2 - 9
        pen.text((10, middle), name, "black", font)
        longest = max(sum(seconds.values()) for seconds in bars.values())
        for label, seconds in bars.items():
            x = _LEFT
            for share, color in zip(seconds.values(), _COLORS, strict=False):
                width = _WIDTH * share / longest
                pen.rectangle((x, top, x + width, top + _BAR - 2), fill=color)
                x += width
            pen.text((x + 8, top + 3), f"{label} {sum(seconds.values()):.2f} s", "black", font)
            top += _BAR
        top += _GAP
    image.save(file)
