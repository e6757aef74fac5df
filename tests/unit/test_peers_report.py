"""What figures come to: spreads, ratios, who leads, what a fault has cost, and the page that says so."""

import io
import json
import re
from dataclasses import replace

import pytest
from peers.accounting import Job, Toll, account, jobs_told
from peers.columns import behind, columns
from peers.dialects import Seen
from peers.environments import REQUIREMENTS, versions
from peers.ledger import Entry, in_work, moments, read_ledger
from peers.memory import Taken, kilobytes_in
from peers.page import write_page
from peers.plan import QUICK
from peers.plots import Bar, draw
from peers.reasons import REASONS
from peers.redis_server import RedisServer
from peers.results import Found, Report, from_document, to_document
from peers.service_run import Samples
from peers.spread import Spread, leads, of_rounds, of_values, ratio
from peers.systems.all_of_them import SYSTEMS
from peers.table import show
from rich.console import Console


def one(value):
    return Spread(value, value, value, 1)


def test_a_spread_is_a_median_and_what_lies_furthest_from_it():
    assert of_values([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)


def test_a_percentile_is_of_all_rounds_and_its_spread_of_single_ones():
    rounds = [[1.0, 2.0, 3.0], [2.0, 9.0]]
    assert of_rounds(rounds, 50) == Spread(2.0, 2.0, 2.0, 5)
    assert of_rounds(rounds, 99) == Spread(9.0, 3.0, 9.0, 5)


def test_a_ratio_is_to_ours():
    assert ratio(one(3.0), one(2.0)) == 1.5
    assert ratio(one(3.0), one(0.0)) is None


@pytest.mark.parametrize(
    ("mine", "other", "less_is_better", "leading"),
    [
        (100.0, 104.0, True, True),
        (104.0, 100.0, True, True),  # a tie
        (106.0, 100.0, True, False),
        (96.0, 100.0, False, True),
        (94.0, 100.0, False, False),
    ],
)
def test_who_is_within_a_tie_leads(mine, other, less_is_better, leading):
    assert leads(one(mine), [one(other)], less_is_better=less_is_better) is leading


def test_ours_is_behind_the_best_of_the_others_and_never_behind_itself():
    column = next(each for each in columns(QUICK) if each.key == "started_ms")
    found = {
        "promptreel": {"started_ms": one(50.0)},
        "promptreel-emulators": {"started_ms": one(1.0)},
        "rq": {"started_ms": one(20.0)},
        "cog": {"started_ms": one(2.0)},
    }
    assert behind(column, found) == "cog"
    assert behind(column, found | {"promptreel": {"started_ms": one(2.0)}}) is None
    assert behind(column, {"rq": found["rq"]}) is None


ENTRIES = [
    Entry(1.0, "started", 7, "a"),
    Entry(1.2, "finished", 7, "a"),
    Entry(1.3, "started", 7, "b"),
    Entry(4.0, "started", 8, "b"),
    Entry(4.2, "finished", 8, "b"),
    Entry(4.3, "started", 8, "a"),
    Entry(4.5, "finished", 8, "a"),
]


def test_every_job_of_a_fault_is_accounted_for():
    jobs = [
        Job("a", 0.5, 1.3, Seen.FINISHED),  # told at 1.3, and begun again at 4.3
        Job("b", 0.5, 4.4, Seen.FINISHED),
        Job("c", 0.6, 5.0, Seen.UNKNOWN),
        Job("d", 0.7, None, Seen.WAITING),
        Job("e", 0.8, 4.9, Seen.FAILED),
        Job("f", None, None, Seen.UNKNOWN),  # never accepted: nothing is owed
    ]
    assert account(jobs, ENTRIES, killed_at=1.5, accepts_again_seconds=0.9) == Toll(
        accepted=5,
        finished=2,
        failed=1,
        lost=1,
        stuck=1,
        rendered_again=1,
        doubled=1,
        accepts_again_seconds=0.9,
        renders_again_seconds=2.5,
        last_end_seconds=None,
    )


def test_a_fault_that_cost_nothing_is_clean_and_over_with_its_last_job():
    job = Job("b", 0.5, 4.4, Seen.FINISHED)
    toll = account([job], ENTRIES, killed_at=1.5, accepts_again_seconds=None)
    assert toll.is_clean
    assert toll.last_end_seconds == pytest.approx(2.9)
    assert replace(toll, rendered_again=1).is_clean
    assert not replace(toll, doubled=1).is_clean
    assert not replace(toll, finished=0).is_clean


def test_the_generator_tells_jobs_as_they_are_accounted_for():
    told = {"prompt": "a", "accepted_at": 1.0, "ended_at": 2.0, "seen": "finished"}
    assert jobs_told([told]) == [Job("a", 1.0, 2.0, Seen.FINISHED)]


def test_a_ledger_is_read_up_to_a_line_that_is_being_written(tmp_path):
    file = tmp_path / "ledger"
    assert read_ledger(file) == []
    file.write_text("1.5 started 7 a prompt\n2.5 finished 7 a prompt\n3.5 started 7 b\n4.5 fin")
    entries = read_ledger(file)
    assert moments(entries, "finished") == {"a prompt": 2.5}
    assert in_work(entries) == Entry(3.5, "started", 7, "b")
    assert in_work(entries[:2]) is None


def test_memory_is_read_as_the_kernel_tells_it():
    rollup = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss:  2048 kB\nPss:   512 kB\n"
    assert kilobytes_in(rollup) == {"Rss": 2048, "Pss": 512}


def report():
    samples = Samples()
    samples.values["started_ms"] += [50.0, 60.0]
    samples.latencies["accept_10"] += [[4.0, 5.0], [6.0]]
    samples.values["memory_loaded_mb"].append(200.0)
    clean = Toll(
        accepted=6,
        finished=6,
        failed=0,
        lost=0,
        stuck=0,
        rendered_again=0,
        doubled=0,
        accepts_again_seconds=0.3,
        renders_again_seconds=0.4,
        last_end_seconds=2.0,
    )
    texts = {"versions": {"it": "1.0"}, "keeps": "memory", "set_as": "it comes"}
    ours = Found(
        name="promptreel",
        title="Promptreel",
        figures=samples.figures(),
        memory=[Taken("api", 120.0, 150.0)],
        tolls={"server": replace(clean, lost=1, finished=5)},
        load_cpu_shares={"polls": 0.4},
        **texts,
    )
    quick = Found(
        name="cog",
        title="Cog",
        figures={"started_ms": one(2.0)},
        empty={"polls": "it cannot be polled"},
        tolls={"server": clean},
        **texts,
    )
    missing = Found(name="rq", title="FastAPI + RQ", skipped="no redis-server", **texts)
    machine = {"cores": 2, "processor": "a CPU", "date": "2026-01-01", "load_before": 0.1}
    return Report(
        plan=QUICK,
        machine=machine,
        minutes=1.0,
        late_p99_ms=0.8,
        redis=None,
        services=[ours, quick, missing],
    )


def test_a_report_is_read_as_it_was_written():
    written = json.dumps(to_document(report()))
    assert json.dumps(to_document(from_document(json.loads(written)))) == written


def test_the_page_says_who_leads_who_was_skipped_and_what_was_lost(tmp_path):
    page = write_page(report(), tmp_path).read_text()
    assert "| submitted → started, ms | 55.0 | 2.0 (0.036×) |" in page
    assert "submitted → started: Cog, 0.036×" in page
    assert REASONS["started"] in page
    assert "**FastAPI + RQ was skipped**: no redis-server." in page
    assert "**Promptreel did not bear the fault `server`**" in page
    assert "it cannot be polled" in page
    assert (tmp_path / "pictures" / "peers-started-ms.svg").read_text().startswith("<svg")


def test_a_bar_that_is_far_longer_than_ours_is_broken_and_the_others_are_not_dwarfed(tmp_path):
    ours, other, endless = (
        Bar(label=f"{value} ms", value=value, least=value, most=value, is_ours=value == 5, text="x")
        for value in (5.0, 10.0, 4000.0)
    )
    draw("accepted, ms", [ours, other, endless], tmp_path / "it.svg")
    drawing = (tmp_path / "it.svg").read_text()
    _, *bars = (float(width) for width in re.findall(r'<rect .*?width="([\d.]+)"', drawing))
    assert bars[1] == bars[2] == 2 * bars[0]
    assert drawing.count("<path") == 1  # the break


def test_who_keeps_as_much_is_compared_as_well(tmp_path):
    found = report()
    synced = Found(
        name="rq-synced",
        title="FastAPI + RQ, synced",
        versions={"it": "1.0"},
        keeps="a disk",
        set_as="it comes",
        keeps_what_it_accepts=True,
        figures={"started_ms": one(110.0)},
    )
    page = write_page(replace(found, services=[*found.services, synced]), tmp_path).read_text()
    assert "submitted → started: Cog, 0.036× [FastAPI + RQ, synced, 2×]." in page


def test_a_redis_that_syncs_keeps_every_change_before_it_replies(tmp_path):
    server = RedisServer(tmp_path / "redis-server", "7.0")
    assert "--appendfsync" not in server.command(1, tmp_path, syncs=False)
    command = server.command(1, tmp_path, syncs=True)
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--appendfsync") + 1] == "always"


def test_the_table_says_the_same():
    printed = io.StringIO()
    show(Console(file=printed, width=200), report())
    assert "2.0 (0.036×)" in printed.getvalue()
    assert "FastAPI + RQ was skipped: no redis-server" in printed.getvalue()


def test_every_column_has_a_reason_for_the_day_it_is_lost():
    assert {column.family for column in columns(QUICK)} - {"accepted"} == set(REASONS)


def test_every_peer_is_pinned_and_none_brings_torch():
    for file in REQUIREMENTS.glob("*.txt"):
        pinned = versions(file.stem)
        assert pinned
        assert "torch" not in pinned
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS)
