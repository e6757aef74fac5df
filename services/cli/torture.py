"""`promptreel torture`: a session with its progress, and its verdict as a table."""

import secrets
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from services.cli.service import ServiceFailed, free_port
from services.torture.invariants import NONE_DOUBLED, NONE_LOST
from services.torture.plan import draw_plan
from services.torture.session import Glance, Verdict, hold_session
from services.torture.setting import LEASE_SECONDS, Place, TortureFailed

_LISTED = 20


def run_torture(
    console: Console,
    *,
    seed: int | None,
    minutes: float,
    in_cloud: bool,
    real_model_dir: Path | None,
    keep: Path | None,
) -> bool:
    """Whether every invariant held. Raises ``ServiceFailed`` when no session could be held."""
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise ServiceFailed(f"{keep} is not empty; name a new folder")
    seed = secrets.randbelow(10**6) if seed is None else seed
    where = "Google's emulators" if in_cloud else "one machine"
    console.print(f"torture on {where}, seed [bold]{seed}[/], {minutes:g} minutes")
    folder = keep or Path(tempfile.mkdtemp(prefix="promptreel-torture-"))
    worth_keeping = keep is not None
    try:
        place = Place(
            folder=folder.resolve(),
            port=free_port("127.0.0.1"),
            in_cloud=in_cloud,
            real_model_dir=real_model_dir,
        )
        verdict = _hold(console, place, seed=seed, seconds=minutes * 60)
        worth_keeping = worth_keeping or bool(verdict.violations)
    except TortureFailed as error:
        worth_keeping = True
        raise ServiceFailed(str(error)) from error
    finally:
        if not worth_keeping:
            shutil.rmtree(folder)
    _print(console, verdict)
    if worth_keeping:
        console.print(f"[dim]jobs.jsonl, history.jsonl and the logs: {folder}[/]", soft_wrap=True)
    return not verdict.violations


def _hold(console: Console, place: Place, *, seed: int, seconds: float) -> Verdict:
    """A session with its progress shown."""
    plan = draw_plan(seed, seconds=seconds, lease_seconds=LEASE_SECONDS, in_cloud=place.in_cloud)
    with _bar(console) as bar:
        task = bar.add_task("starting", total=seconds, accepted=0, ended=0, faults=0)
        return hold_session(place, plan, seed=seed, show=lambda glance: _show(bar, task, glance))


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("[bold]{task.fields[ended]}[/]/{task.fields[accepted]} jobs ended"),
        TextColumn("[bold]{task.fields[faults]}[/] faults"),
        TextColumn("[dim]{task.description}[/]"),
        console=console,
        transient=True,
    )


def _show(bar: Progress, task: TaskID, glance: Glance) -> None:
    bar.update(
        task,
        completed=glance.elapsed_seconds,
        description=glance.doing,
        accepted=glance.accepted,
        ended=glance.ended,
        faults=glance.faults,
    )


def _print(console: Console, verdict: Verdict) -> None:
    console.print(_faults(verdict))
    console.print(_measures(verdict))
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(verdict.jobs.items()))
    skew = ", ".join(
        f"{name} {seconds:+.2f} s" for name, seconds in verdict.plan.clock_skew_seconds.items()
    )
    say = partial(console.print, soft_wrap=True)
    say(f"{sum(verdict.jobs.values())} jobs ({statuses}) in {verdict.attempts} attempts")
    say(f"{verdict.starts} programs started; clocks: {skew}; lease {LEASE_SECONDS:g} s")
    if verdict.errors_logged:
        say("[dim]errors logged: " + "; ".join(verdict.errors_logged[:_LISTED]) + "[/]")
    say(_count(verdict, "lost", NONE_LOST) + ", " + _count(verdict, "doubled", NONE_DOUBLED))
    if not verdict.violations:
        say("[bold green]every invariant held[/]")
        return
    say(f"[bold red]{len(verdict.violations)} violations[/]")
    for violation in verdict.violations[:_LISTED]:
        say(Text.assemble((f"  {violation.invariant}: ", "red"), violation.detail))


def _faults(verdict: Verdict) -> Table:
    table = Table("fault", "times", box=None, pad_edge=False)
    for name, count in sorted(verdict.faults.items()):
        table.add_row(name, str(count))
    table.add_row("[dim]armed, not reached in time[/]", str(verdict.points_missed))
    return table


def _measures(verdict: Verdict) -> Table:
    table = Table("seconds", "times", "median", "p95", "most", box=None, pad_edge=False)
    for name, seconds in (
        ("cancel of a running job, in calm", verdict.cancels_in_calm),
        ("the same under faults", verdict.cancels_under_faults),
        ("a killed worker's job is free again", verdict.recoveries),
    ):
        table.add_row(name, str(len(seconds)), *_spread(seconds))
    return table


def _spread(seconds: Sequence[float]) -> tuple[str, ...]:
    if not seconds:
        return ("", "", "")
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
    return tuple(f"{each:.2f}" for each in (statistics.median(ordered), p95, ordered[-1]))


def _count(verdict: Verdict, word: str, invariant: str) -> str:
    count = sum(violation.invariant == invariant for violation in verdict.violations)
    return f"{count} {word}"
