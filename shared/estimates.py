"""What a caller may expect of a job: its place, when it is done, what it has cost.

The store counts, the rules here decide. Whatever nobody has measured is None, and never a guess.
"""

from datetime import datetime
from math import ceil

from shared.admission import PACE_WINDOW
from shared.job import Job, JobStatus
from shared.prices import price_of, usd

# Below this, too little is done to tell the whole by: planning takes no share of a render's time.
_TELLING_PERCENT = 5
_USD_DIGITS = 6


def queue_position(job: Job, *, before: int) -> int | None:
    """1 is next; ``before``: how many older jobs of its model wait."""
    return before + 1 if job.status is JobStatus.QUEUED else None


def seconds_left(job: Job, *, position: int | None, ended: int, now: datetime) -> int | None:
    """Until a job has ended; ``ended``: how many of its model have, within ``PACE_WINDOW``."""
    if position is not None:
        # At this pace all before it have ended, and it has itself.
        return ceil(position * PACE_WINDOW.total_seconds() / ended) if ended > 0 else None
    if job.lease is None or job.progress < _TELLING_PERCENT:
        return None
    # Of this attempt: an earlier one's time is not what this one's progress has taken.
    elapsed = max(0.0, (now - job.lease.claimed_at).total_seconds())
    return ceil(elapsed * (100 - job.progress) / job.progress)


def cost_usd(job: Job) -> float | None:
    """The seconds a finished render took, at its device's price."""
    if job.status is not JobStatus.FINISHED or job.summary is None:
        return None
    price = price_of(job.summary.device)
    return None if price is None else round(usd(job.summary.generation_seconds, price), _USD_DIGITS)
