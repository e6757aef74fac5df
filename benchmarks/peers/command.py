"""Measures Promptreel and what people would pick instead, with the same no-op renderer in each.

    python benchmarks/peers [--only NAME …] [--quick]

Each peer gets an environment of its own the first time (a few minutes, from pinned packages); who cannot be
set up is skipped, and it is said why. Everything listens at 127.0.0.1 and is gone afterwards, after Ctrl-C
too. Prints tables. A full run, of all services, also writes benchmarks/results/peers.json and
docs/benchmarks.md, 40 minutes on two cores; --page writes the page anew from the last figures.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from figures import read_results, write_results
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from peers.clip import make_clip
from peers.page import write_page
from peers.plan import QUICK, Plan
from peers.results import Report, from_document, to_document
from peers.run import Run
from peers.systems.all_of_them import SYSTEMS
from peers.systems.system import System, Tools
from peers.table import show

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_RESULTS = "peers"
_PRINTED_COLUMNS = 168  # where there is no terminal that says how many it has


def measure(
    systems: Sequence[System], plan: Plan, *, environments: Path, console: Console
) -> Report:
    """With progress shown, and whatever is worth a line."""
    bars = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as scratch, Progress(*bars, console=console) as progress:
        folder = Path(scratch)
        task = progress.add_task("", total=1)
        run = Run(
            systems,
            plan,
            tools=Tools(environments, make_clip(folder / "clip.mp4")),
            folder=folder,
            tell=lambda text: progress.update(task, description=text),
            warn=console.print,
            advance=lambda: progress.advance(task),
        )
        progress.update(task, total=run.stages)
        return run.measure()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python benchmarks/peers", description=__doc__)
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a try, whose figures say little")
    parser.add_argument("--page", action="store_true", help="only write docs/benchmarks.md anew")
    parser.add_argument("--environments", type=Path, default=_ROOT / ".venv-peers")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    console = Console(width=None if sys.stdout.isatty() else _PRINTED_COLUMNS)
    if arguments.page:
        console.print(f"written: {write_page(_last_report(), _DOCS).relative_to(_ROOT)}")
        return
    systems = [each for each in SYSTEMS if each.name in (arguments.only or names)]
    try:
        report = measure(
            systems,
            QUICK if arguments.quick else Plan(),
            environments=arguments.environments.resolve(),
            console=console,
        )
    except KeyboardInterrupt:
        sys.exit("Stopped, and with it everything that was started.")
    show(console, report)
    if arguments.quick or arguments.only:
        console.print("Nothing is written: a part, or a try.")
    else:
        write_results(_RESULTS, to_document(report))
        console.print(f"written: {write_page(report, _DOCS).relative_to(_ROOT)}")


def _last_report() -> Report:
    document = read_results(_RESULTS)
    if document is None:
        sys.exit("There are no figures yet: run it without --page first.")
    return from_document(document)


def _stop(*_: object) -> NoReturn:
    """As Ctrl-C does: what was started is stopped on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
