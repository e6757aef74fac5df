"""A change of a job, seen from both sides: who has ended it must tell, and only that one."""

from collections.abc import Callable

from shared.job import Job
from shared.ports import JobStore


def change(store: JobStore, job_id: str, rule: Callable[[Job], Job]) -> tuple[Job, Job]:
    """The job as it was stored, and as it is after the rule. What that raises changes nothing."""
    before: Job | None = None

    def noted(stored: Job) -> Job:
        nonlocal before
        before = stored
        return rule(stored)

    after = store.update(job_id, noted)
    if before is None:
        raise AssertionError("a store runs the rule on what it has")
    return before, after


def has_ended(before: Job, after: Job) -> bool:
    """By this change, not by an earlier one."""
    return after.status.is_terminal and not before.status.is_terminal
