"""What an installation does and costs at 1, 100 and 10,000 jobs an hour and a million a day.

Simulated, not measured: Pub/Sub, Cloud Run, the worker's rules and the sweep are modelled one job after the
other; renders take what wan_model.py predicts of an L4. Every number it rests on is in known.py and prices.py.

    python benchmarks/scale [--quick] [--seed 1]
    python benchmarks/scale --check 30    # against a real installation on this machine, with the demo model

Prints tables, writes benchmarks/results/scale.json and from it docs/scale.md and its pictures; --quick only
prints.
"""

import argparse
from pathlib import Path
from typing import Any

from figures import write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

from scale import page, plots, results, scenarios

DOCS = Path(__file__).resolve().parents[2] / "docs"
_THREE = 3  # variants that every load is simulated in


def simulated(*, quick: bool, seed: int, console: Console) -> results.Figures:
    chosen = scenarios.scenarios(quick=quick)
    rows = [
        results.figures_of(scenario, results.run(scenario, seed=seed))
        for scenario in track(chosen, "simulating", console=console)
    ]
    return results.whole(rows, seed=seed, quick=quick)


def show(console: Console, found: results.Figures) -> None:
    table = Table(
        *("jobs an hour", "installation", "GPUs mean/most", "busy", "wait p50/p95/p99 s"),
        *("finished", "refused", "failed", "$ a clip"),
        title="simulated; seconds of renders predicted for an L4",
    )
    for row in found["runs"]:
        jobs = dict(row["jobs"])
        submitted, refused = jobs.pop("submitted"), jobs.pop("refused")
        finished = jobs.pop("finished", 0)
        table.add_row(
            row["load"],
            row["name"],
            f"{row['instances']['mean']} / {row['instances']['most']}",
            f"{row['gpu_busy_share']:.0%}",
            " / ".join(f"{seconds:.0f}" for seconds in row["wait_seconds"].values()),
            f"{finished} of {submitted}",
            str(refused),
            ", ".join(f"{number} {why}" for why, number in jobs.items()) or "0",
            f"{row['usd_a_clip']:.4f}",
        )
    console.print(table)
    told = Table("limit", "jobs an hour", "what to change then", title="what gives way first")
    for limit in found["limits"]:
        told.add_row(limit["name"], f"{limit['jobs_an_hour']:,}", limit["then"])
    console.print(told)


def grouped(found: results.Figures) -> dict[str, list[dict[str, Any]]]:
    """By load, without the comparisons."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in found["runs"]:
        groups.setdefault(row["load"], []).append(row)
    return {load: rows[:_THREE] for load, rows in groups.items()}


def write(found: results.Figures, docs: Path = DOCS) -> None:
    """The page, its pictures and the figures that both are taken from."""
    write_results("scale", found)
    plots.draw_costs(grouped(found), docs / "pictures" / "scale-usd.png")
    plots.draw_waits(grouped(found), docs / "pictures" / "scale-waits.png")
    (docs / "scale.md").write_text(page.page_of(found), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs, or fewer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--page", action="store_true", help="only write the page from the results there are"
    )
    parser.add_argument("--check", type=int, metavar="JOBS", help="real jobs on this machine")
    arguments = parser.parse_args()
    console = Console(width=150)
    if arguments.check is not None:
        from scale import check  # noqa: PLC0415 - it starts what the simulation does not need

        check.main(arguments.check, seed=arguments.seed, console=console)
        write(results.read())
        return
    if arguments.page:
        write(results.read())
        return
    found = simulated(quick=arguments.quick, seed=arguments.seed, console=console)
    show(console, found)
    if not arguments.quick:
        write(found)


if __name__ == "__main__":
    main()
