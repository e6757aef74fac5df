"""Bars as SVG: text that a browser draws, and that shows in a diff what has changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_LEFT, _WIDTH, _BAR, _GAP, _TOP, _RIGHT = 190, 430, 18, 8, 40, 150
_OURS, _OTHERS, _WHISKER = "#3e7cb1", "#9aa5b1", "#333333"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    least: float
    most: float
    is_ours: bool
    text: str


def draw(title: str, bars: Sequence[Bar], file: Path) -> None:
    """A bar a service, with a whisker from the least to the most of single rounds."""
    height = _TOP + len(bars) * (_BAR + _GAP) + _GAP
    width = _LEFT + _WIDTH + _RIGHT
    longest = max((max(bar.value, bar.most) for bar in bars), default=0.0) or 1.0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
        '  font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-weight="bold">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        lines += _drawn(bar, top=_TOP + number * (_BAR + _GAP), longest=longest)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def _drawn(bar: Bar, *, top: int, longest: float) -> Sequence[str]:
    scale = _WIDTH / longest
    begin, end = _LEFT + bar.least * scale, _LEFT + bar.most * scale
    middle, text_at = top + _BAR / 2, top + _BAR - 4
    long = bar.value * scale
    after = max(end, _LEFT + long) + 8
    color = _OURS if bar.is_ours else _OTHERS
    return [
        f'<text x="10" y="{text_at}">{escape(bar.label)}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{long:.1f}" height="{_BAR}" fill="{color}"/>',
        f'<line x1="{begin:.1f}" y1="{middle}" x2="{end:.1f}" y2="{middle}" stroke="{_WHISKER}"/>',
        f'<text x="{after:.1f}" y="{text_at}">{escape(bar.text)}</text>',
    ]
