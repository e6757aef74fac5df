"""docs/scale.md, written from results/scale.json: no figure on it is typed."""

from collections.abc import Iterable, Mapping, Sequence

from figures import read_results

from scale.tables import Figures, failed, number, seconds, share_of, table

_SPENT = ("GPU busy", "GPU idle", "cold starts", "Firestore", "Pub/Sub", "GCS", "API")
_MAIN = ("as it is", "fitting", "pool")


def page_of(found: Figures) -> str:
    main, compared = _divided(found["runs"])
    sections = (
        _opening(found),
        "## What comes out",
        _outcomes(main),
        _reading(found, main),
        "![Seconds until a job is claimed](pictures/scale-waits.png)",
        "## What a clip costs",
        _costs(main),
        "![Dollars a clip](pictures/scale-usd.png)",
        _cost_notes(main),
        "## What gives way first",
        _limits(found),
        _first(found),
        "## What a setting does",
        _outcomes(compared),
        _settings(main, compared),
        "## What to know",
        _caveats(found, main, compared),
        "## What a job asks for",
        _operations(found),
        "## Checked",
        _checked(),
        "## What it rests on",
        _known(found["known"]),
        _prices(found["prices"]),
        "## What is not in it",
        _missing(),
        "## Reproduce it",
        _reproduce(found),
    )
    return "\n\n".join(sections) + "\n"


def _opening(found: Figures) -> str:
    return (
        "# Scale, on paper\n\n"
        "<!-- Written by `python benchmarks/scale` from benchmarks/results/scale.json. Do not edit. -->\n\n"
        "What one installation, as [`terraform/`](../terraform/) makes it, does and costs at 1, 100 and 10,000 jobs an "
        "hour and a million a day. **Simulated**: nothing on this page ran on Google Cloud. A program goes through "
        "every job, delivery, lease, cold start and sweep, by the rules of the code and the settings of terraform; "
        f"a render by the preset `fast` takes the {found['render_seconds']['mean']} s on an L4, on average, that are "
        "[predicted](performance.md#presets-on-an-l4-predicted). Every other number is counted, configured, published "
        "or assumed, and [says which](#what-it-rests-on)."
    )


def _divided(rows: Sequence[Figures]) -> tuple[list[Figures], list[Figures]]:
    main = [row for row in rows if row["name"] in _MAIN]
    return main, [row for row in rows if row["name"] not in _MAIN]


def _outcomes(rows: Iterable[Figures]) -> str:
    return table(
        (
            "jobs an hour",
            "installation",
            "GPUs, mean and most",
            "busy",
            "wait p50 / p95 / p99 s",
            "jobs",
            "refused",
            "failed",
            "$ a clip",
        ),
        (
            (
                row["load"],
                row["name"],
                f"{row['instances']['mean']}, {row['instances']['most']}",
                f"{row['gpu_busy_share']:.0%}",
                " / ".join(seconds(value) for value in row["wait_seconds"].values()),
                f"{row['jobs']['submitted']:,}",
                share_of(row["jobs"]["refused"], row),
                failed(row),
                f"{row['usd_a_clip']:.4f}",
            )
            for row in rows
        ),
    )


def _reading(found: Figures, main: Sequence[Figures]) -> str:
    fitting = {row["load"]: row["instances"]["most"] for row in main if row["name"] == "pool"}
    sizes = ", ".join(f"{most:,} for {load}" for load, most in fitting.items())
    return (
        "- **as it is**: pushed, one GPU, four requests an instance: terraform's defaults.\n"
        "- **fitting**: pushed, one request an instance, and so many GPUs at most as noon keeps busy, and twice the "
        f"square root of that against chance: {sizes}.\n"
        "- **pool**: `gpu_worker_pool` of that size. It is always there.\n\n"
        f"As terraform has it, {number(found['known']['QUEUED_PER_GPU']['value'])} jobs a GPU may wait. "
        "Noon has 1.6 times the average, night 0.4 times; a tenth of the jobs come ten at once. A wait is from acceptance "
        "to the first claim, of the jobs that were claimed; *failed* are jobs that were accepted and have no clip; "
        "*refused* were told 429."
    )


def _costs(main: Iterable[Figures]) -> str:
    return table(
        ("jobs an hour", "installation", *_SPENT, "$ a clip"),
        (
            (
                row["load"],
                row["name"],
                *(f"{row['usd'][what]:.5f}" for what in _SPENT),
                f"**{row['usd_a_clip']:.4f}**",
            )
            for row in main
        ),
    )


def _cost_notes(main: Sequence[Figures]) -> str:
    lonely = next(row for row in main if row["load"] == "1" and row["name"] == "as it is")
    idle = lonely["usd"]["GPU idle"] / lonely["usd"]["GPU busy"]
    return (
        f"At one job an hour a clip pays for the minutes that its machine waits for another: {idle:.0f} times what its "
        "own render costs. Nothing but more jobs helps, or an instance that is stopped sooner than Cloud Run does. "
        "Everything that is not a GPU is small, and most of it is fetching the video over the internet. Where "
        "jobs wait for hours it is callers, who poll every two seconds all the while."
    )


def _limits(found: Figures) -> str:
    return table(
        ("reached at jobs an hour", "limit", "what to change then"),
        ((f"{limit['jobs_an_hour']:,}", limit["name"], limit["then"]) for limit in found["limits"]),
    )


def _first(found: Figures) -> str:
    told = [
        f"- {load}: " + ("; ".join(names) if names else "none")
        for load, names in found["limits_reached_at_noon"].items()
    ]
    return (
        "What the noon of each load is beyond, in the order in which it comes to them:\n\n"
        + "\n".join(told)
    )


def _settings(main: Sequence[Figures], compared: Sequence[Figures]) -> str:
    one = next(row for row in main if row["load"] == "10,000" and row["name"] == "fitting")
    two, four, shrinking, stubborn, impatient = (
        next(row for row in compared if row["name"].startswith(name))
        for name in (
            "2 requests",
            "4 requests an",
            "4 requests, a window",
            "as it is, a window",
            "the same, 20",
        )
    )
    accepted = impatient["jobs"]["submitted"] - impatient["jobs"]["refused"]
    told = ", ".join(
        f"{seconds(row['wait_seconds']['p95'])} s at the 95th percentile and {row['usd_a_clip']:.4f} $ with {name}"
        for name, row in (("one", one), ("two", two), ("four", four))
    )
    return (
        f"**Requests an instance**, at 10,000 an hour: {told}. Cloud Run fills instances to six tenths before it "
        "starts others, and takes a request that waits behind a render for one that is served. One is quick, four is "
        "cheap; with one GPU or a few, one is worse at the 99th percentile, for who finds no place backs off for minutes "
        "while a GPU may be free. Two never stand in line longer than one render of `fast`, which is less than the 50 s "
        "after which a push is given back.\n\n"
        "**What nobody publishes** is how Pub/Sub's window shrinks when pushes fail. With four requests, a window that "
        f"loses a tenth each time makes the 99th percentile {seconds(shrinking['wait_seconds']['p99'])} s instead of "
        f"{seconds(four['wait_seconds']['p99'])}: who is given back for standing in line too "
        "long has made it narrower. One that never shrinks, before one GPU, delivers "
        f"{stubborn['deliveries'] / max(stubborn['jobs'].get('finished', 1), 1):.0f} times for each clip; {failed(stubborn)} jobs fail as "
        "`undeliverable` where a message has a hundred deliveries, "
        f"{impatient['jobs'].get('undeliverable', 0):,} of {accepted:,} accepted where it has twenty. Where pushes do not fail it makes no difference: enough GPUs, or a pool."
    )


def _caveats(found: Figures, main: Sequence[Figures], compared: Sequence[Figures]) -> str:
    busy = next(row for row in main if row["load"] == "10,000" and row["name"] == "as it is")
    reference = next(row for row in compared if row["preset"] == "reference")
    accepted = busy["jobs"]["submitted"] - busy["jobs"]["refused"]
    patience = found["message_patience_seconds"] / 3600
    return (
        f"- **A full queue** is {found['hours_to_drain_a_full_queue']:.1f} hours of `fast` for the GPUs there are. A message that is refused at each of "
        f"its {number(found['known']['MAX_DELIVERIES']['value'])} deliveries lives {patience:.1f}: so long may there be no GPU before a job "
        "fails as `undeliverable`. With a preset that takes longer, set `limits.queued_per_model` lower.\n"
        "- **A second message an hour.** A job that waits for more than an hour is published again, though its first "
        f"message is still there: {busy['published'] / accepted:.1f} messages a job at 10,000 an hour as it is, each "
        "delivered, refused and backed off by itself.\n"
        "- **Ends are told again after files are removed.** A webhook whose courier died is due as files of ended jobs are, "
        "and waits where more of these are overdue than a sweep removes.\n"
        f"- **A sweep that finds nothing waits** two seconds for dead letters, every minute: as much as "
        f"{found['empty_sweeps_usd_a_month']:.2f} $ a month of the API's machine before Google's free tier, "
        "the column API at one job an hour.\n"
        f"- **`reference` on an L4**: {failed(reference)}, three attempts paid for each, if the prediction holds; a clip "
        f"costs {reference['usd_a_clip']:.2f} $ at one job an hour."
    )


def _operations(found: Figures) -> str:
    steps = found["operations_of_a_job"]
    names = (
        "reads",
        "writes",
        "job_writes",
        "deletes",
        "messages",
        "class_a",
        "class_b",
        "requests",
    )
    titles = ("step", *(name.replace("_", " ") for name in names))
    rows = [(step, *(number(made.get(name, 0)) for name in names)) for step, made in steps.items()]
    totals = (sum(made.get(name, 0) for made in steps.values()) for name in names)
    whole = ("**a job**", *(f"**{number(total)}**" for total in totals))
    return (
        "Counted by reading the code, of a job that is claimed at once, polled and fetched; Firestore's reads, writes and "
        "deletes are documents, `job writes` those of the collection `jobs` among the writes.\n\n"
        + table(titles, [*rows, whole])
        + f"\n\nWhile it renders, a job's document is written {found['job_document_writes_a_second']} times a second; "
        "Firestore's advice is once at most. To come to the noon of a million a day, traffic should take "
        f"{found['ramp_minutes_at_noon']['1,000,000 a day']} minutes to grow."
    )


def _checked() -> str:
    known = (
        "Where queueing theory knows the answer, `tests/unit/test_scale_queues.py` holds the simulation to it: one server "
        "with random and with constant services, and up to thirty by Erlang's formula. "
    )
    found: Figures | None = read_results("scale-check")
    if found is None:
        return known + (
            "`python benchmarks/scale --check 30` compares it with a real installation on one machine, the demo model "
            "and one worker; no such run is at hand."
        )
    rows = (
        (what.replace("_", " "), f"{pair['measured']:.2f}", f"{pair['simulated']:.2f}")
        for what, pair in found["compared"].items()
    )
    return (
        known
        + f"And with a real `promptreel up` on this machine: {found['jobs']} jobs of the demo model, one worker, "
        f"{found['utilisation']:.0%} busy, {found['cores']} cores, {found['date']}. The simulation is told how long one "
        "render keeps the device and when the jobs came, and nothing else.\n\n"
        + table(("seconds", "measured", "simulated"), rows)
        + f"\n\nThe mean from acceptance to the end is {found['mean_total_error']:+.0%} off. Of waits the simulation knows less: the "
        "real worker claims a job when the one before is denoised, the simulated one when the device is free."
    )


def _known(known: Mapping[str, Figures]) -> str:
    rows = (
        (
            name.replace("_", " ").lower(),
            f"{number(value['value'])} {value['unit']}".strip(),
            value["kind"],
            value["source"],
        )
        for name, value in known.items()
    )
    return table(("what", "value", "kind", "from"), rows)


def _prices(prices: Mapping[str, Figures]) -> str:
    rows = []
    for name, price in prices.items():
        if name == "L4":
            each = f"{price['usd_a_second']} a second of {price['machine']}"
        else:
            each = f"{price['usd']} for {number(price['per'])} {price['unit']}"
        rows.append((name.replace("_", " ").lower(), each, price["source"], price["noted_on"]))
    return table(("US dollars", "", "from", "noted on"), rows)


def _missing() -> str:
    return (
        "Free tiers and discounts; logs, traces, images and secrets; cancels, webhooks and pictures; what callers do who "
        "are told 429. Pub/Sub takes no time between publish and push, and Firestore and the API never slow down: their "
        "limits are in the table above, not in the waits. Text, denoising and decoding hold the GPU for themselves; the "
        "real worker decodes a clip beside the next one's denoising, on the same GPU. How long Cloud Run takes to stream an "
        "image is not known, nor how many instances it starts at once when there are few GPUs in a region."
    )


def _reproduce(found: Figures) -> str:
    return (
        "```console\n"
        "$ python benchmarks/scale            # a minute or two; writes this page\n"
        "$ python benchmarks/scale --quick    # fewer jobs; only prints\n"
        "$ python benchmarks/scale --check 30 # beside a real installation on this machine\n"
        "```\n\n"
        f"Seed {found['seed']}: the same seed has the same figures, to the last digit."
        + (" **This page is of a quick run.**" if found["quick"] else "")
    )
