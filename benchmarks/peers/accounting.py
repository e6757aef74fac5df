"""What a fault has cost: every job of a crowd accounted for, by what its client saw and what was rendered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peers.dialects import Seen
from peers.ledger import Entry, moments, renders_finished


@dataclass(frozen=True)
class Job:
    """What a client can say of one job. Moments by the machine's clock."""

    prompt: str
    accepted_at: float | None
    ended_at: float | None
    seen: Seen


@dataclass(frozen=True, kw_only=True)
class Toll:
    """Of one fault. Seconds are counted from the kill; None: it never was."""

    accepted: int
    finished: int
    failed: int  # and the client was told
    lost: int  # accepted, and then nobody knew of it
    stuck: int  # still waiting when the patience was over
    rendered_again: (
        int  # to the end, and once more: what was done had not been stored when it was hit
    )
    doubled: int  # begun again though its client had been told that it is finished: two results
    accepts_again_seconds: float | None
    renders_again_seconds: float | None
    last_end_seconds: float | None  # that a client was told of; None: some are stuck, or lost all

    @property
    def is_clean(self) -> bool:
        return self.finished == self.accepted and self.doubled == 0


def account(
    jobs: Sequence[Job],
    entries: Sequence[Entry],
    *,
    killed_at: float,
    accepts_again_seconds: float | None,
) -> Toll:
    """``entries`` are the ledger's."""
    accepted = [job for job in jobs if job.accepted_at is not None]
    told = [job for job in accepted if job.seen in (Seen.FINISHED, Seen.FAILED)]
    ends = [job.ended_at for job in told if job.ended_at is not None and job.ended_at > killed_at]
    again = [entry.at for entry in entries if entry.what == "started" and entry.at > killed_at]
    counts, begun = renders_finished(entries), moments(entries, "started")
    stuck = _count(accepted, Seen.WAITING)
    return Toll(
        accepted=len(accepted),
        finished=_count(accepted, Seen.FINISHED),
        failed=_count(accepted, Seen.FAILED),
        lost=_count(accepted, Seen.UNKNOWN),
        stuck=stuck,
        rendered_again=sum(counts.get(job.prompt, 0) > 1 for job in accepted),
        doubled=sum(_is_doubled(job, begun) for job in accepted),
        accepts_again_seconds=accepts_again_seconds,
        renders_again_seconds=min(again) - killed_at if again else None,
        last_end_seconds=max(ends) - killed_at if ends and not stuck else None,
    )


def jobs_told(told: Sequence[Mapping[str, object]]) -> Sequence[Job]:
    """As the load generator tells of them."""
    return [Job(**{**each, "seen": Seen(str(each["seen"]))}) for each in told]


def _is_doubled(job: Job, begun: Mapping[str, float]) -> bool:
    if job.seen is not Seen.FINISHED or job.ended_at is None:
        return False
    return begun.get(job.prompt, 0.0) > job.ended_at


def _count(jobs: Sequence[Job], seen: Seen) -> int:
    return sum(job.seen is seen for job in jobs)
