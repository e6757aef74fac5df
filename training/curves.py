"""Loss curves as a PNG: what was measured at each step, smoothed, one line a stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

_WIDTH, _HEIGHT = 640, 240  # pixels of one curve
_MARGIN = 40
_INK, _LINE, _PAPER = (40, 40, 48), (200, 60, 50), (250, 250, 248)
_PARTS = 40  # a curve is smoothed over a 40th of its length


def draw_curves(histories: Mapping[str, Sequence[float]], file: Path) -> None:
    """One below the other, logarithmic, the last value written beside the name."""
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT * len(histories)), _PAPER)
    for index, (name, values) in enumerate(histories.items()):
        sheet.paste(_curve(name, np.asarray(values, dtype=float)), (0, index * _HEIGHT))
    sheet.save(file)


def _curve(name: str, values: np.ndarray) -> Image.Image:
    picture = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(picture)
    window = max(1, len(values) // _PARTS)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    logarithms = np.log10(np.maximum(smooth, 1e-9))
    low, high = logarithms.min(), max(logarithms.max(), logarithms.min() + 1e-6)
    across = np.linspace(_MARGIN, _WIDTH - _MARGIN, len(smooth))
    down = _HEIGHT - _MARGIN - (logarithms - low) / (high - low) * (_HEIGHT - 2 * _MARGIN)
    pen.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=_LINE, width=2)
    pen.text((_MARGIN, 12), f"{name}: {smooth[-1]:.4f} after {len(values)} steps", fill=_INK)
    pen.text((4, _MARGIN - 6), f"{10**high:.3f}", fill=_INK)
    pen.text((4, _HEIGHT - _MARGIN - 6), f"{10**low:.3f}", fill=_INK)
    return picture
