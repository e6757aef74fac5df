"""What every benchmark does with its figures: sum them up, say where they were taken, write them."""

import datetime as dt
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: a value that was measured. Of 20 values the 99th percentile is the largest."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def percentiles(values: Sequence[float], *, digits: int = 3) -> dict[str, float]:
    """``p50``, ``p95`` and ``p99``."""
    return {f"p{percent}": round(percentile(values, percent), digits) for percent in (50, 95, 99)}


def machine() -> dict[str, object]:
    """Where and when: the same figures mean nothing elsewhere."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load_before": round(os.getloadavg()[0], 2),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
    }


def write_results(name: str, figures: Mapping[str, object]) -> Path:
    """``results/NAME.json``; the figures that matter come first."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return file


def read_results(name: str) -> dict[str, object] | None:
    """What an earlier run has written, if one has."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return None
    found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
