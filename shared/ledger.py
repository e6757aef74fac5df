"""The ledger of usage: one entry for every picture that counts against a month, one if it is given back.

Entries are derived from the job, and stored in the same transaction as the job: none is forgotten,
none is made twice. They are never changed or removed; a job is forgotten long before its entries.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from shared.job import Job


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    id: str  # one job has one of each: storing it twice changes nothing
    owner: str
    month: str  # "2026-01"
    amount: int  # 1: charged, -1: given back
    at: datetime
    job_id: str
    idempotency_key: str | None


def entries_of(job: Job) -> tuple[LedgerEntry, ...]:
    """All that the ledger must hold of a job, the oldest first."""
    if job.charge is None:
        return ()
    charged = _entry(job, job.charge.month, "debit", 1, job.created_at)
    if job.charge.given_back_at is None:
        return (charged,)
    # To the month it came from: what is given back in the next one is no present for that.
    return charged, _entry(job, job.charge.month, "refund", -1, job.charge.given_back_at)


def entries_made(stored: Job, changed: Job) -> tuple[LedgerEntry, ...]:
    """What a change of a job adds to the ledger."""
    there = {entry.id for entry in entries_of(stored)}
    return tuple(entry for entry in entries_of(changed) if entry.id not in there)


def month_of(moment: datetime) -> str:
    """In UTC: a month begins for everybody at once."""
    return f"{moment.astimezone(UTC):%Y-%m}"


def month_after(moment: datetime) -> datetime:
    """When the month of a moment is over."""
    first = moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (first.year + 1, 1) if first.month == 12 else (first.year, first.month + 1)  # noqa: PLR2004 - December
    return first.replace(year=year, month=month)


def _entry(job: Job, month: str, what: str, amount: int, at: datetime) -> LedgerEntry:
    return LedgerEntry(
        id=f"{job.id}-{what}",
        owner=job.owner,
        month=month,
        amount=amount,
        at=at,
        job_id=job.id,
        idempotency_key=job.idempotency_key,
    )
