"""What is measured, as columns of one table: keys, titles, units, and which way is better."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from peers.plan import Plan
from peers.spread import Spread, leads

OURS = "promptreel"
_PERCENTS = (50, 95, 99)
_POLL_PERCENTS = (50, 99)


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    unit: str
    less_is_better: bool = True
    digits: int = 1

    @property
    def family(self) -> str:
        """What its reasons, and what services lack, are filed under: the key's first word."""
        return self.key.partition("_")[0]

    def show(self, spread: Spread) -> str:
        return f"{spread.value:,.{self.digits}f}"


def columns(plan: Plan) -> Sequence[Column]:
    """In the order of a job's life."""
    return [
        Column("startup_seconds", "start-up to the first accepted job", "s", digits=2),
        *_accepting(plan),
        Column("started_ms", "submitted → started", "ms"),
        Column("poller_ms", "finished → seen by a poller", "ms"),
        Column("told_ms", "finished → told, by stream or reply", "ms"),
        *_polling(plan),
        Column("memory_idle_mb", "memory, before any load", "MB", digits=0),
        Column("memory_loaded_mb", "memory, after the load", "MB", digits=0),
    ]


def _accepting(plan: Plan) -> Iterator[Column]:
    for rate in plan.rates_per_second:
        for percent in _PERCENTS:
            yield Column(f"accept_{rate}_p{percent}_ms", f"accepted at {rate}/s, p{percent}", "ms")
        title = f"accepted a second, of {rate}"
        yield Column(f"accept_{rate}_per_second", title, "/s", less_is_better=False)


def _polling(plan: Plan) -> Iterator[Column]:
    for stored in plan.stored:
        among = f"with {stored:,} jobs stored"
        key = f"polls_{stored}"
        yield Column(f"{key}_per_second", f"polls {among}", "/s", less_is_better=False, digits=0)
        for percent in _POLL_PERCENTS:
            yield Column(f"{key}_p{percent}_ms", f"a poll {among}, p{percent}", "ms")


def behind(column: Column, found: Mapping[str, Mapping[str, Spread]]) -> str | None:
    """Who is best, where ours is behind by more than a tie. Only services of one machine are compared."""
    ours = found.get(OURS, {}).get(column.key)
    others = _others(column, found)
    if ours is None or leads(ours, list(others.values()), less_is_better=column.less_is_better):
        return None
    return best(column, found)


def best(column: Column, found: Mapping[str, Mapping[str, Spread]]) -> str | None:
    """Of the others; None if none of them has the column."""
    others = _others(column, found)
    pick = min if column.less_is_better else max
    return pick(others, key=lambda name: others[name].value, default=None)


def _others(column: Column, found: Mapping[str, Mapping[str, Spread]]) -> Mapping[str, Spread]:
    return {
        name: figures[column.key]
        for name, figures in found.items()
        if column.key in figures and not name.startswith(OURS)
    }
