"""The table that a run ends with: a row a figure, a column a service, with its ratio to ours."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from peers.accounting import Toll
from peers.columns import OURS, Column, columns
from peers.results import Found, Report
from peers.spread import Spread, ratio


def show(console: Console, report: Report) -> None:
    measured = [found for found in report.services if found.figures]
    table = Table(
        *("", *(found.title for found in measured)),
        title="around a no-op render; × is to ours",
    )
    for row in rows(report, measured):
        table.add_row(*row)
    console.print(table)
    faults = Table(*FAULT_HEADS, title="kill -9, half-way through a crowd")
    for row in fault_rows(report):
        faults.add_row(*row)
    console.print(faults)
    for found in report.services:
        if found.skipped is not None:
            console.print(f"{found.title} was skipped: {found.skipped}")


def rows(report: Report, services: Sequence[Found]) -> Iterator[Sequence[str]]:
    ours = report.figures.get(OURS, {})
    for column in columns(report.plan):
        if any(column.key in found.figures for found in services):
            cells = [_cell(column, found, ours.get(column.key)) for found in services]
            yield (f"{column.title}, {column.unit}", *cells)


def _cell(column: Column, found: Found, ours: Spread | None) -> str:
    figure = found.figures.get(column.key)
    if figure is None:
        return "none" if found.remark(column.key) else ""
    text = column.show(figure)
    if found.name == OURS or ours is None:
        return text
    times = ratio(figure, ours)
    return text if times is None else f"{text} ({times:.2g}×)"


FAULT_HEADS = (
    "killed",
    "service",
    "accepted",
    "finished",
    "failed",
    "lost",
    "stuck",
    "rendered again",
    "doubled",
    "accepts again s",
    "renders again s",
    "last end s",
)


def fault_rows(report: Report) -> Iterator[Sequence[str]]:
    for victim in report.plan.victims:
        for found in report.services:
            if (toll := found.tolls.get(victim)) is not None:
                yield (victim, found.title, *_counts(toll))


def _counts(toll: Toll) -> Sequence[str]:
    counted = (
        toll.accepted,
        toll.finished,
        toll.failed,
        toll.lost,
        toll.stuck,
        toll.rendered_again,
        toll.doubled,
    )
    seconds = (
        _or(toll.accepts_again_seconds, "never"),
        _or(toll.renders_again_seconds, "never"),
        _or(toll.last_end_seconds, "none"),
    )
    return [*map(str, counted), *seconds]


def _or(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"{seconds:.1f}"
