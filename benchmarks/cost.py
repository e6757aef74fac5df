"""Seconds into dollars: what a clip of each preset is PREDICTED to cost on an L4.

The seconds come from `wan_model.py`, counted and not measured, the price from `shared/prices.py`. Where
results/gpu_wan.json holds a run on a GPU, its seconds are shown beside them under that GPU's own name,
with dollars only if its price is known.

    python benchmarks/cost.py [--start-seconds LOW HIGH]

Prints a table, writes benchmarks/results/cost.json and draws benchmarks/results/cost.png.
"""

import argparse
from collections.abc import Mapping

import wan_model
from bars import draw_bars
from figures import RESULTS, read_results, write_results
from rich.console import Console
from rich.table import Table
from wan_model import L4, Range

from shared.catalog import find_model
from shared.prices import L4_PRICE, price_of, usd

MODEL = find_model("wan2.1")


def start_range() -> Range:
    """Of a cold start, as cold_start.py predicts it for the weights that the engine has."""
    found = read_results("cold_start")
    assert found is not None, "run benchmarks/cold_start.py first"
    cases = found["prediction_for_1_3b_on_l4"]
    seconds = [case["predicted_seconds"] for case in cases if case["text_encoder"] == "bfloat16"]
    return Range(min(seconds), max(seconds))


def cost_of(seconds: Range, *, digits: int = 4) -> list[float]:
    return Range(usd(seconds.low, L4_PRICE), usd(seconds.high, L4_PRICE)).rounded(digits)


def predictions(start: Range) -> dict[str, dict[str, object]]:
    """A preset's seconds and dollars, and the same for a clip that a machine is started for."""
    found = {}
    for name, preset in MODEL.presets.items():
        stages = wan_model.predict(preset)
        clip = wan_model.total(stages)
        found[name] = {
            "predicted": True,
            "forwards": preset.forwards,
            "seconds": clip.rounded(1),
            "usd": cost_of(clip),
            "usd_with_a_start": cost_of(clip + start),
            "stage_seconds": {stage: seconds.rounded() for stage, seconds in stages.items()},
            "over_the_catalog_limit": clip.high > MODEL.max_render_seconds,
        }
    return found


def measured_rows(run: Mapping[str, object] | None) -> list[dict[str, object]]:
    """Of a GPU's own run, if there was one: under its name, in its own seconds."""
    if run is None or run["predicted"]:
        return []
    price = price_of(run["device"])
    return [
        {
            "preset": name,
            "device": run["device"],
            "seconds": seconds,
            "usd": None if price is None else round(usd(seconds, price), 4),
        }
        for name, seconds in run["ours_seconds"].items()
    ]


def show(
    console: Console, found: dict[str, dict[str, object]], measured: list[dict[str, object]]
) -> None:
    table = Table(
        *("preset", "forwards", "PREDICTED s", "$ a clip", "$ with a start of its own"),
        title=(
            f"81 frames of 832x480 on {L4_PRICE.machine}, {L4_PRICE.usd_a_second} $/s "
            f"({L4_PRICE.noted_on}): predicted, not measured"
        ),
    )
    for name, row in found.items():
        low, high = row["seconds"]
        table.add_row(
            name,
            str(row["forwards"]),
            f"{low:.0f} to {high:.0f}",
            "{:.4f} to {:.4f}".format(*row["usd"]),
            "{:.4f} to {:.4f}".format(*row["usd_with_a_start"]),
        )
    console.print(table)
    for row in measured:
        price = "price unknown" if row["usd"] is None else f"{row['usd']} $"
        console.print(f"measured on {row['device']}: {row['preset']} {row['seconds']} s, {price}")
    if not measured:
        console.print("No GPU run is at hand: nothing here is measured.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        *("--start-seconds",),
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="of a cold start; else as cold_start.py predicted it",
    )
    arguments = parser.parse_args()
    console = Console()
    start = Range(*arguments.start_seconds) if arguments.start_seconds else start_range()
    found = predictions(start)
    measured = measured_rows(read_results("gpu_wan"))
    report = {f"{name}_usd": row["usd"] for name, row in found.items()} | {
        "predicted": True,
        "usd_a_second": L4_PRICE.usd_a_second,
        "price": {
            "machine": L4_PRICE.machine,
            "noted_on": L4_PRICE.noted_on,
            "source": L4_PRICE.source,
        },
        "assumed": {
            "efficiency": L4.efficiency,
            "memory_share": L4.memory_share,
            "half_tflops": L4.half_tflops,
            "tf32_tflops": L4.tf32_tflops,
            "memory_gb_a_second": L4.memory_gb,
        },
        "start_seconds": start.rounded(1),
        "presets": found,
        "measured": measured,
    }
    write_results("cost", report)
    draw_bars(wan_model.bars(MODEL.presets), RESULTS / "cost.png")
    show(console, found, measured)


if __name__ == "__main__":
    main()
