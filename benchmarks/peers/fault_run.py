"""Part 2: something is killed with `kill -9` while a crowd waits, and started again as by a supervisor."""

import time
from collections.abc import Sequence

import psutil

from peers.accounting import Toll, account, jobs_told
from peers.installation import Installation, LoadFailed, wait_until_accepted
from peers.ledger import Entry, in_work, read_ledger
from peers.plan import Plan, Victim
from peers.programs import kill

_LOOK_SECONDS = 0.002
_NAME = "crowd"


def measure_fault(there: Installation, plan: Plan, victim: Victim) -> Toll:
    """Half of the jobs are done and one is half-way through when it is hit. Raises ``LoadFailed``."""
    there.programs.supervise()
    crowd = there.begin_load("crowd", seconds=plan.fault_seconds, name=_NAME, count=plan.fault_jobs)
    try:
        doomed = _wait_for_the_middle(there, plan)
        time.sleep(plan.delay_seconds / 2)
        # Just before: what is written down afterwards was rendered after it.
        killed_at = time.monotonic()
        kill(victims(there, victim, renderer=doomed.process_id))
        done = [entry for entry in _crowds(there, "finished") if entry.at < killed_at]
        if len(done) == plan.fault_jobs:
            raise LoadFailed("its jobs were done before it could be hurt: this machine is too busy")
        accepts_again_seconds = _accepts_again(there, plan, killed_at)
        answer = there.end_load(crowd, seconds=plan.fault_seconds)
        _wait_for_a_render(there, killed_at, until=killed_at + plan.fault_seconds)
    finally:
        crowd.kill()
        crowd.wait()
    return account(
        jobs_told(answer["jobs"]),
        read_ledger(there.place.ledger),
        killed_at=killed_at,
        accepts_again_seconds=accepts_again_seconds,
    )


def _accepts_again(there: Installation, plan: Plan, killed_at: float) -> float | None:
    """By a job of our own, which is also there to be rendered when nothing is left of the crowd's."""
    try:
        wait_until_accepted(
            there.dialect, there.place.port, prompt="probe", seconds=plan.fault_seconds
        )
    except LoadFailed:
        return None
    # A reply that is the video has waited for it.
    waited = plan.delay_seconds if there.dialect.answers == "held" else 0.0
    return time.monotonic() - killed_at - waited


def _wait_for_a_render(there: Installation, killed_at: float, *, until: float) -> None:
    """The probe's, at the latest."""
    while time.monotonic() < until:
        entries = read_ledger(there.place.ledger)
        if any(entry.what == "started" and entry.at > killed_at for entry in entries):
            return
        time.sleep(_LOOK_SECONDS)


def victims(there: Installation, victim: Victim, *, renderer: int) -> Sequence[psutil.Process]:
    """Whole families: what a supervisor would not leave behind either, and what the kernel takes with a container.

    Where the server has no worker beside it, the worker is its process that renders, and the server is
    all of them.
    """
    programs = there.programs
    match victim:
        case "server":
            return programs.family("server")
        case "worker" if programs.has("worker"):
            return programs.family("worker")
        case "worker":
            process = psutil.Process(renderer)
            return [process, *process.children(recursive=True)]
        case "everything":
            return programs.family("server", "helper", "worker", "store")


def _wait_for_the_middle(there: Installation, plan: Plan) -> Entry:
    """The render that begins when half of the crowd's are done. Raises ``LoadFailed``."""
    deadline = time.monotonic() + plan.fault_seconds
    while time.monotonic() < deadline:
        entries = _crowds(there, "started", "finished")
        done = sum(entry.what == "finished" for entry in entries)
        begun = in_work(entries)
        if done >= plan.fault_jobs // 2 and begun is not None:
            return begun
        time.sleep(_LOOK_SECONDS)
    raise LoadFailed("half of the jobs were not rendered in time")


def _crowds(there: Installation, *what: str) -> Sequence[Entry]:
    """What the ledger has of the crowd's jobs."""
    entries = read_ledger(there.place.ledger)
    return [entry for entry in entries if entry.prompt.startswith(_NAME) and entry.what in what]
