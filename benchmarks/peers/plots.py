"""Bars as SVG: text that a browser draws, and that shows in a diff what has changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_LEFT, _WIDTH, _BAR, _GAP, _TOP, _RIGHT = 190, 430, 18, 8, 40, 200
_OURS, _OTHERS, _WHISKER, _PAPER = "#3e7cb1", "#9aa5b1", "#333333", "white"
# Times our own: what is longer is drawn broken, else all others would be too short to be told apart.
BROKEN_BEYOND = 5


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    least: float
    most: float
    is_ours: bool
    text: str


def draw(title: str, bars: Sequence[Bar], file: Path) -> None:
    """A bar a service, ours first, with a whisker from the least to the most of single rounds."""
    height = _TOP + len(bars) * (_BAR + _GAP) + _GAP
    width = _LEFT + _WIDTH + _RIGHT
    whole = [bar for bar in bars if bar.value <= bars[0].value * BROKEN_BEYOND]
    longest = max((max(bar.value, bar.most) for bar in whole), default=0.0) or 1.0
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"',
        '  font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="{_PAPER}"/>',
        f'<text x="10" y="24" font-weight="bold">{escape(title)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = _TOP + number * (_BAR + _GAP)
        lines += _drawn(bar, top=top, longest=longest) if bar in whole else _broken(bar, top=top)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")


def _drawn(bar: Bar, *, top: int, longest: float) -> Sequence[str]:
    scale = _WIDTH / longest
    begin, end = _LEFT + bar.least * scale, _LEFT + bar.most * scale
    middle, long = top + _BAR / 2, bar.value * scale
    return [
        *_bar_of(bar, top=top, long=long, text_at=max(end, _LEFT + long)),
        f'<line x1="{begin:.1f}" y1="{middle}" x2="{end:.1f}" y2="{middle}" stroke="{_WHISKER}"/>',
    ]


def _broken(bar: Bar, *, top: int) -> Sequence[str]:
    at = _LEFT + _WIDTH * 0.9
    return [
        *_bar_of(bar, top=top, long=_WIDTH, text_at=_LEFT + _WIDTH),
        f'<path d="M {at - 5:.1f} {top + _BAR + 1} l 10 {-_BAR - 2}" stroke="{_PAPER}" stroke-width="5"/>',
    ]


def _bar_of(bar: Bar, *, top: int, long: float, text_at: float) -> Sequence[str]:
    color, baseline = _OURS if bar.is_ours else _OTHERS, top + _BAR - 4
    return [
        f'<text x="10" y="{baseline}">{escape(bar.label)}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{long:.1f}" height="{_BAR}" fill="{color}"/>',
        f'<text x="{text_at + 8:.1f}" y="{baseline}">{escape(bar.text)}</text>',
    ]
