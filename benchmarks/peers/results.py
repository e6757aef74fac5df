"""What one run has found, of every service; to be written down and read again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from peers.accounting import Toll
from peers.memory import Taken
from peers.plan import Plan
from peers.spread import Spread


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one service."""

    name: str
    title: str
    versions: Mapping[str, str]
    keeps: str
    set_as: str
    keeps_what_it_accepts: bool = False  # also when the power goes
    skipped: str | None = None  # why nothing, or nothing more, was measured
    figures: Mapping[str, Spread] = field(default_factory=dict)
    empty: Mapping[str, str] = field(
        default_factory=dict
    )  # by a column's beginning: why, or a remark
    memory: Sequence[Taken] = ()
    tolls: Mapping[str, Toll] = field(default_factory=dict)  # by victim
    load_cpu_shares: Mapping[str, float] = field(default_factory=dict)

    def remark(self, key: str) -> str | None:
        """What is to be said of a column, whether it is empty or not."""
        return next((text for begin, text in self.empty.items() if key.startswith(begin)), None)


@dataclass(frozen=True, kw_only=True)
class Report:
    plan: Plan
    machine: Mapping[str, object]
    minutes: float
    late_p99_ms: float | None  # that the load generator itself was
    redis: str | None  # its version
    services: Sequence[Found]

    @property
    def figures(self) -> Mapping[str, Mapping[str, Spread]]:
        return {found.name: found.figures for found in self.services}


def to_document(report: Report) -> dict[str, Any]:
    return asdict(report)


def from_document(document: Mapping[str, Any]) -> Report:
    plan = {key: tuple(v) if isinstance(v, list) else v for key, v in document["plan"].items()}
    services = [
        Found(
            **{
                **each,
                "figures": {key: Spread(**value) for key, value in each["figures"].items()},
                "memory": [Taken(**value) for value in each["memory"]],
                "tolls": {key: Toll(**value) for key, value in each["tolls"].items()},
            }
        )
        for each in document["services"]
    ]
    return Report(**{**document, "plan": Plan(**plan), "services": services})
