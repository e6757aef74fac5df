"""What processes take of the machine's memory: the share of each in the pages that several have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_KB_PER_MB = 1024


@dataclass(frozen=True)
class Taken:
    """By one process."""

    program: str
    pss_mb: float
    rss_mb: float


def taken_by(program: str, family: Sequence[psutil.Process]) -> Sequence[Taken]:
    """By each of a program's processes that is still there."""
    found = []
    for process in family:
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        if (kilobytes := kilobytes_in(rollup)).get("Rss"):
            pss, rss = kilobytes["Pss"] / _KB_PER_MB, kilobytes["Rss"] / _KB_PER_MB
            found.append(Taken(program, round(pss, 1), round(rss, 1)))
    return found


def kilobytes_in(rollup: str) -> dict[str, int]:
    """The lines of ``smaps_rollup`` that name an amount."""
    found = {}
    for line in rollup.splitlines():
        name, _, amount = line.partition(":")
        if amount.endswith(" kB"):
            found[name] = int(amount.split()[0])
    return found
