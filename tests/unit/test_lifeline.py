"""A child ends with its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = """
import os, time
from shared.lifeline import exit_with_parent
exit_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {CHILD!r}])
"""


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # it has ended; only nobody asked how yet


@pytest.fixture
def parent_and_child():
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        yield parent, child
        parent.kill()
        if is_running(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_ends_when_its_parent_is_killed(parent_and_child):
    parent, child = parent_and_child
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_a_child_lives_while_its_parent_does(parent_and_child):
    _, child = parent_and_child
    time.sleep(1.2)  # longer than the watch looks away
    assert is_running(child)


def test_a_child_ends_whose_parent_was_gone_before_it_looked():
    with subprocess.Popen(["true"]) as gone:
        pass
    told = CHILD.replace("exit_with_parent()", f"exit_with_parent({gone.pid})")
    ended = subprocess.run([sys.executable, "-c", told], cwd=ROOT, timeout=30, check=False)
    assert ended.returncode == 1
