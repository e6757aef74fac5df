"""docs/benchmarks.md, written from what a run has found: method, tables, plots, and where ours does not lead."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from peers.columns import OURS, Column, behind, best, columns
from peers.plan import Plan
from peers.plots import BROKEN_BEYOND, Bar, draw
from peers.reasons import REASONS
from peers.results import Found, Report
from peers.spread import Spread, ratio
from peers.table import FAULT_HEADS, fault_rows, rows

_PICTURES = "pictures"


def write_page(report: Report, docs: Path) -> Path:
    """The page, and beside it its pictures."""
    parts = [
        _opening(report),
        _rules(report.plan),
        *_services(report),
        *_figures(report),
        *_pictures(report, docs),
        *_memory(report),
        *_faults(report),
        *_not_leading(report),
        *_uncertain(report),
        _REPRODUCE,
    ]
    file = docs / "benchmarks.md"
    file.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
    return file


def _opening(report: Report) -> str:
    machine = report.machine
    return f"""\
# Measured against what people would pick instead

Written by `make bench-peers`; do not edit. How fast the model itself is rendered is in
[performance.md](performance.md): here every service has the same no-op renderer, so that what is compared is
everything around the model.

{machine["cores"]} cores of {machine["processor"]}, {machine["date"]}, {report.minutes:.0f} minutes, load
before it {machine["load_before"]}. Figures of emulators say nothing of Google's services.
"""


def _rules(plan: Plan) -> str:
    rates = ", ".join(map(str, plan.rates_per_second))
    return f"""\
## The rules

- **The same work.** A fixed MP4 of a few kilobytes, {plan.delay_seconds} s after the render began, one render at
  a time, left where each service naturally leaves it. The render itself writes into a ledger when it began and
  ended: nobody's own word is taken for it.
- **The same machine, in the same run.** The load generator shares it, in a process of its own. {plan.rounds} rounds,
  in each of which every service is started from nothing, warmed up, measured and stopped; who is first changes.
- **As its authors advise.** Each in an environment of its own, with pinned versions, by its own interface for what
  takes long; what is set otherwise than it comes is named below.
- **Open loop.** At {rates} submissions a second, evenly spaced for {plan.rate_seconds:.0f} s after
  {plan.warm_up_seconds:.0f} s of warm-up, each is due whatever became of those before, and its latency counts from
  when it was due. Only accepted ones count as accepted.
- **Polls** are a closed loop: {plan.poll_clients} clients, each asking again when it is answered.
- A figure is the median of all values, or the percentile named; in brackets, how many times ours it is. Less
  than 5 % apart is a tie. Nothing is left out but the warm-up.
"""


def _services(report: Report) -> Iterator[str]:
    yield "## The services\n"
    yield "| service | versions | keeps its jobs in | set up |\n|---|---|---|---|"
    for found in report.services:
        versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
        redis = f", redis-server {report.redis}" if "redis" in found.versions else ""
        yield f"| {found.title} | {versions}{redis} | {found.keeps} | {found.set_as} |"
    yield ""
    for found in report.services:
        if found.skipped is not None:
            yield f"- **{found.title} was skipped**: {found.skipped}.\n"


def _figures(report: Report) -> Iterator[str]:
    measured = [found for found in report.services if found.figures]
    yield "## Around a render\n"
    yield from _markdown(("", *(found.title for found in measured)), rows(report, measured))
    yield ""
    for found in measured:
        for begin, text in found.empty.items():
            titles = [c.title for c in columns(report.plan) if c.key.startswith(begin)]
            if titles:
                yield f"- {found.title}, *{_together(titles)}*: {text}."
    yield ""


def _together(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{titles[0]}* to *{titles[-1]}"


def _pictures(report: Report, docs: Path) -> Iterator[str]:
    for column in _drawn(report.plan):
        bars = list(_bars(report, column))
        if bars:
            name = f"{_PICTURES}/peers-{column.key.replace('_', '-')}.svg"
            title = f"{column.title}, {column.unit}"
            draw(title, bars, docs / name)
            yield f"![{title}]({name})\n"
    yield f"A bar that is more than {BROKEN_BEYOND} times ours is drawn broken.\n"


def _drawn(plan: Plan) -> Sequence[Column]:
    """One of each kind, where services differ most."""
    wanted = {
        f"accept_{max(plan.rates_per_second)}_p99_ms",
        "started_ms",
        "poller_ms",
        f"polls_{max(plan.stored)}_per_second",
        "memory_loaded_mb",
        "startup_seconds",
    }
    return [column for column in columns(plan) if column.key in wanted]


def _bars(report: Report, column: Column) -> Iterator[Bar]:
    for found in report.services:
        if (figure := found.figures.get(column.key)) is not None:
            yield Bar(
                label=found.title,
                value=figure.value,
                least=figure.least,
                most=figure.most,
                is_ours=found.name.startswith(OURS),
                text=_with_spread(column, figure),
            )


def _with_spread(column: Column, figure: Spread) -> str:
    least, most = (f"{value:,.{column.digits}f}" for value in (figure.least, figure.most))
    return f"{column.show(figure)} ({least} to {most})"


def _memory(report: Report) -> Iterator[str]:
    yield "## Memory, process by process\n"
    yield "Each one's share of the pages that several have (PSS), after the load.\n"
    yield "| service | processes, MB |\n|---|---|"
    for found in report.services:
        if found.memory:
            taken = ", ".join(f"{each.program} {each.pss_mb:.0f}" for each in found.memory)
            yield f"| {found.title} | {taken} |"
    yield ""


def _faults(report: Report) -> Iterator[str]:
    plan = report.plan
    yield f"""\
## Faults

{plan.fault_jobs} jobs wait; half of them are done and one is half-way through when something is killed with
`kill -9`, with the processes it has started, and is started again {_RESTART_TEXT}. `server` is who accepts, `worker`
who renders (where both are one program, its process that renders), `everything` is these and the store. A client who
is refused asks again; one that was accepted waits, for {plan.fault_seconds:.0f} s. *Lost* is a job that was accepted
and that nobody knows of any more, *stuck* one that still waits then. *Rendered again* is one that was rendered to the
end when its worker died before that was stored: work is lost, and one result is left. *Doubled* is one whose render
began again though its client had been told that it is finished.
"""
    yield from _markdown(FAULT_HEADS, fault_rows(report))
    yield "\n" + _STUCK


_RESTART_TEXT = "after 0.3 s, as by a supervisor"
_STUCK = """\
What is stuck may come back: Celery gives a job to another worker when its visibility timeout of an hour is over, RQ
looks for abandoned jobs every ten minutes; BentoML's tasks stay in progress for good. A job of ours whose worker died
is taken back by the next one that starts on the same machine, elsewhere when its lease ends, 30 s as it comes. A
request that LitServe holds is lost with its connection, and its client knows at once. When Cog's worker is killed its
server refuses everything until it is started again, which its health check would tell a supervisor that asks.
"""


def _not_leading(report: Report) -> Iterator[str]:
    yield "## Where ours does not lead, and why\n"
    by_family: dict[str, list[str]] = {}
    for column in columns(report.plan):
        first = behind(column, report.figures)
        if first is not None:
            line = f"{column.title}: {_compared(report, column, first)}"
            by_family.setdefault(column.family, []).append(line + _like_with_like(report, column))
    for family, lines in by_family.items():
        yield f"- {'; '.join(lines)}.\n\n  {REASONS.get(family, 'Not explained yet.')}\n"
    yield from _faults_of_ours(report)
    if not by_family:
        yield "It leads, or ties, in every column.\n"
    elif _keepers(report):
        yield _BRACKETS


_BRACKETS = """\
In square brackets is the best of those that keep what they have accepted when the power goes, as ours does: the same
FastAPI, RQ and Celery over a Redis that syncs each change to the disk before it replies.
"""


def _compared(report: Report, column: Column, other: str) -> str:
    titles = {found.name: found.title for found in report.services}
    times = ratio(report.figures[other][column.key], report.figures[OURS][column.key])
    return titles[other] if times is None else f"{titles[other]}, {times:.2g}×"


def _keepers(report: Report) -> Sequence[Found]:
    return [
        found for found in report.services if found.keeps_what_it_accepts and found.name != OURS
    ]


def _like_with_like(report: Report, column: Column) -> str:
    kept = best(column, {found.name: found.figures for found in _keepers(report)})
    return "" if kept is None else f" [{_compared(report, column, kept)}]"


def _faults_of_ours(report: Report) -> Iterator[str]:
    """These have no excuse."""
    for found in report.services:
        for victim, toll in found.tolls.items():
            if found.name.startswith(OURS) and not toll.is_clean:
                yield f"- **{found.title} did not bear the fault `{victim}`**: a defect.\n"


def _uncertain(report: Report) -> Iterator[str]:
    yield "## What to bear in mind\n"
    shares = [share for found in report.services for share in found.load_cpu_shares.values()]
    if shares:
        yield f"- The load generator took up to {max(shares):.0%} of one core, beside what it measured."
    if report.late_p99_ms is not None:
        yield f"- It was itself late by {report.late_p99_ms} ms (p99), which is in every latency."
    yield "- Two cores hold the generator, the server, the worker and the store: no service had a machine to itself."
    yield "- Percentiles of few requests are near the largest: at 10 a second there are few.\n"


_REPRODUCE = """\
## Reproduce it

```console
$ make bench-peers                                                 # 40 minutes on two cores, from nothing
$ .venv/bin/python benchmarks/peers --only promptreel rq --quick   # some, quickly; writes nothing
$ .venv/bin/python benchmarks/peers --page                         # this page again, of the last figures
```
"""


def _markdown(heads: Sequence[str], lines: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for line in lines:
        yield f"| {' | '.join(line)} |"
