"""How figures are written on the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

_TELLING = 0.01  # below, a share says less than the number


def failed(row: Figures) -> str:
    others = {
        why: jobs
        for why, jobs in row["jobs"].items()
        if why not in ("submitted", "refused", "finished")
    }
    if not others:
        return "0"
    told = ", ".join(f"`{why}`" for why in others)
    return f"{share_of(sum(others.values()), row)} {told}"


def share_of(number_of_jobs: int, row: Figures) -> str:
    if not number_of_jobs:
        return "0"
    share = number_of_jobs / row["jobs"]["submitted"]
    if 1 - _TELLING < share < 1:
        return f"{share:.1%}"
    return f"{share:.0%}" if share >= _TELLING else f"{number_of_jobs:,}"


def seconds(value: float) -> str:
    return f"{value:,.0f}"


def number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
