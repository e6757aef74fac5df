"""The benchmark beside others, tried on our own service: it starts, is driven, is hurt, and is gone."""

import subprocess
import sys
from pathlib import Path

import psutil

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


def test_a_try_measures_us_and_leaves_nothing_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, PEERS, "--only", "promptreel", "--quick", "--environments", tmp_path],
        check=False,
        capture_output=True,
        encoding="utf-8",
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path), "COLUMNS": "200"},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    for line in (
        "start-up",
        "accepted at 50/s, p99",
        "finished → seen by a poller",
        "polls with 20",
    ):
        assert line in done.stdout
    (fault,) = [line for line in done.stdout.splitlines() if line.startswith("│ server")]
    cells = [cell.strip() for cell in fault.split("│")]
    assert cells[3:8] == ["6", "6", "0", "0", "0"]  # accepted, finished, failed, lost, stuck
    assert cells[9] == "0"  # doubled
    assert "Nothing is written" in done.stdout
    assert not [process for process in psutil.process_iter() if _comes_from(process, str(tmp_path))]


def _comes_from(process, folder):
    try:
        return process.environ().get("PEERS_MARK", "").startswith(folder)
    except psutil.Error:
        return False
