"""Pictures of a run, drawn with Pillow like those of the other benchmarks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

_COLORS = ("#3e7cb1", "#9aa5b1", "#f2a541", "#7a5195")
_WIDTH, _LEFT, _BARS, _BAR, _GAP, _TOP = 900, 210, 480, 22, 20, 50
_WAITS = {"p50": "#9aa5b1", "p95": "#3e7cb1", "p99": "#7a5195"}
_LEAST_SECONDS = 1.0


def draw_costs(groups: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Dollars a clip, a group a load; its longest bar takes the whole width."""
    image, pen, font = _sheet(sum(len(rows) * _BAR + _GAP for rows in groups.values()))
    _legend(
        pen,
        font,
        dict(zip(("GPU busy", "GPU idle", "cold starts", "the rest"), _COLORS, strict=True)),
    )
    top = _TOP
    for load, rows in groups.items():
        longest = max(sum(row["usd"].values()) for row in rows)
        for row in rows:
            pen.text((10, top + 2), f"{load} · {row['name']}", "black", font)
            x = float(_LEFT)
            for part, color in zip(_parts(row["usd"]), _COLORS, strict=True):
                width = _BARS * part / longest
                pen.rectangle((x, top, x + width, top + _BAR - 3), fill=color)
                x += width
            pen.text((x + 6, top + 2), f"{row['usd_a_clip']:.4f} $", "black", font)
            top += _BAR
        top += _GAP
    image.save(file, optimize=True)


def draw_waits(groups: Mapping[str, Sequence[Mapping[str, Any]]], file: Path) -> None:
    """Seconds until a job is claimed; a tenfold wait is always as much longer."""
    image, pen, font = _sheet(sum(len(rows) * _BAR + _GAP for rows in groups.values()))
    _legend(pen, font, _WAITS)
    most = max(row["wait_seconds"]["p99"] for rows in groups.values() for row in rows)
    top = _TOP
    for load, rows in groups.items():
        for row in rows:
            pen.text((10, top + 2), f"{load} · {row['name']}", "black", font)
            for name, color in reversed(_WAITS.items()):
                width = _BARS * _logarithmic(row["wait_seconds"][name], most)
                pen.rectangle((_LEFT, top, _LEFT + width, top + _BAR - 3), fill=color)
            x = _LEFT + _BARS * _logarithmic(row["wait_seconds"]["p99"], most)
            told = " / ".join(f"{row['wait_seconds'][name]:.0f}" for name in _WAITS)
            pen.text((x + 6, top + 2), f"{told} s", "black", font)
            top += _BAR
        top += _GAP
    image.save(file, optimize=True)


def _parts(usd: Mapping[str, float]) -> tuple[float, float, float, float]:
    named = tuple(usd[name] for name in ("GPU busy", "GPU idle", "cold starts"))
    return named[0], named[1], named[2], sum(usd.values()) - sum(named)


def _logarithmic(seconds: float, most: float) -> float:
    """0 to 1; what is below a second is nothing."""
    if seconds <= _LEAST_SECONDS or most <= _LEAST_SECONDS:
        return 0.0
    length = len(f"{most:.0f}")
    decades = {10.0**number: number for number in range(length + 1)}
    below = max(decade for decade in decades if decade <= seconds)
    return (decades[below] + (seconds / below - 1) / 9) / length


def _sheet(height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, Any]:
    image = Image.new("RGB", (_WIDTH, _TOP + height), "white")
    return image, ImageDraw.Draw(image), ImageFont.load_default(13)


def _legend(pen: ImageDraw.ImageDraw, font: Any, names: Mapping[str, str]) -> None:  # noqa: ANN401 - Pillow has two kinds
    x = float(_LEFT)
    for name, color in names.items():
        pen.rectangle((x, 14, x + 14, 28), fill=color)
        pen.text((x + 20, 12), name, "black", font)
        x += 44 + pen.textlength(name, font)
