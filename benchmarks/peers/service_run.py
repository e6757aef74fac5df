"""Part 1: what a service costs around the model, without anything going wrong."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peers.installation import Installation
from peers.ledger import moments, read_ledger
from peers.memory import Taken
from peers.plan import Plan
from peers.spread import Spread, of_rounds, of_values

_MS = 1000.0
_WARM_UP_JOBS = 3
_JOB_SECONDS = 15.0
_ANSWER_SECONDS = 10.0
_STORING_CLIENTS = 16


@dataclass
class Samples:
    """What has been measured of one service so far, by the columns it will fill."""

    values: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    # Milliseconds, a list a round, for percentiles.
    latencies: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    memory: Sequence[Taken] = ()
    load_cpu_shares: dict[str, float] = field(default_factory=dict)  # of the generator, by task
    late_ms: list[float] = field(default_factory=list)  # that the generator itself was
    notes: dict[str, str] = field(default_factory=dict)  # by column: why it is empty

    def figures(self) -> Mapping[str, Spread]:
        found = {key: of_values(values) for key, values in self.values.items()}
        for key, rounds in self.latencies.items():
            percents = (50, 99) if key.startswith("polls") else (50, 95, 99)
            if any(rounds):
                found |= {f"{key}_p{p}_ms": of_rounds(rounds, p) for p in percents}
        return found

    def load_took(self, task: str, answer: Mapping[str, Any]) -> None:
        self.load_cpu_shares[task] = max(
            self.load_cpu_shares.get(task, 0.0), float(answer["cpu_share"])
        )


def measure_round(there: Installation, plan: Plan, samples: Samples, *, name: str) -> Iterator[str]:
    """One round, step by step; what it is at is yielded. Raises ``LoadFailed``."""
    samples.values["startup_seconds"].append(there.start_seconds)
    yield "warm-up"
    _follow(there, plan, Samples(), name=f"{name}-warm", count=_WARM_UP_JOBS)
    samples.values["memory_idle_mb"].append(_total_mb(there.programs.memory()))
    yield "one job after the other"
    _follow(there, plan, samples, name=f"{name}-one", count=plan.jobs)
    if there.dialect.answers != "held":
        for rate in plan.rates_per_second:
            yield f"{rate} submissions a second"
            _submit(there, plan, samples, name=name, rate=rate)
    samples.memory = there.programs.memory()
    samples.values["memory_loaded_mb"].append(_total_mb(samples.memory))


def measure_polls(there: Installation, plan: Plan, samples: Samples) -> Iterator[str]:
    """More and more jobs stored, and asked for. Only for who can be polled."""
    ids: list[str] = []
    for stored in plan.stored:
        yield f"storing {stored:,} jobs"
        answer = there.load(
            "store",
            seconds=plan.store_seconds,
            name=f"stored-{stored}",
            count=stored - len(ids),
            at_once=_STORING_CLIENTS,
        )
        ids += answer["ids"]
        if len(ids) < stored:
            reason = f"only {len(ids):,} jobs were stored in {plan.store_seconds:.0f} s"
            samples.notes[f"polls_{stored}"] = reason
            return
        yield f"polls with {stored:,} jobs stored"
        for _ in range(plan.poll_stretches):
            _poll(there, plan, samples, ids)


def _follow(there: Installation, plan: Plan, samples: Samples, *, name: str, count: int) -> None:
    """By each way that the service offers."""
    dialect = there.dialect
    ways = {
        "poll": ("poller_ms", dialect.status is not None),
        "stream": ("told_ms", dialect.events is not None),
        "hold": ("told_ms", dialect.answers == "held"),
    }
    for way, (column, offered) in ways.items():
        if not offered:
            continue
        answer = there.load(
            "one_by_one",
            seconds=count * (plan.delay_seconds + _JOB_SECONDS),
            name=f"{name}-{way}",
            count=count,
            way=way,
            patience_seconds=plan.delay_seconds + _JOB_SECONDS,
        )
        samples.load_took(f"one job, {way}", answer)
        entries = read_ledger(there.place.ledger)
        started, finished = moments(entries, "started"), moments(entries, "finished")
        for job in answer["jobs"]:
            prompt = job["prompt"]
            samples.values["started_ms"].append((started[prompt] - job["sent_at"]) * _MS)
            samples.values[column].append((job["seen_at"] - finished[prompt]) * _MS)


def _submit(there: Installation, plan: Plan, samples: Samples, *, name: str, rate: int) -> None:
    answer = there.load(
        "at_rate",
        seconds=plan.warm_up_seconds + plan.rate_seconds + _ANSWER_SECONDS,
        rate_per_second=rate,
        rate_seconds=plan.rate_seconds,
        warm_up_seconds=plan.warm_up_seconds,
        patience_seconds=_ANSWER_SECONDS,
        name=f"{name}-rate-{rate}",
    )
    samples.load_took(f"{rate} submissions a second", answer)
    samples.late_ms += [seconds * _MS for seconds in answer["late_seconds"]]
    samples.values[f"accept_{rate}_per_second"].append(answer["accepted_per_second"])
    in_ms = [seconds * _MS for seconds in answer["latencies_seconds"]]
    samples.latencies[f"accept_{rate}"].append(in_ms)
    if answer["accepted"] < answer["asked"]:
        share = f"{answer['accepted']} of {answer['asked']} were accepted"
        samples.notes[f"accept_{rate}"] = f"{share}, {answer['broken']} had no answer"


def _poll(there: Installation, plan: Plan, samples: Samples, ids: Sequence[str]) -> None:
    stored = len(ids)
    answer = there.load(
        "poll",
        seconds=plan.poll_seconds,
        warm_up_seconds=plan.warm_up_seconds / 2,
        clients=plan.poll_clients,
        ids=ids,
    )
    samples.load_took("polls", answer)
    latencies = answer["latencies_seconds"]
    samples.values[f"polls_{stored}_per_second"].append(len(latencies) / answer["seconds"])
    samples.latencies[f"polls_{stored}"].append([seconds * _MS for seconds in latencies])
    if answer["failed"]:
        samples.notes[f"polls_{stored}"] = f"{answer['failed']} polls failed"


def _total_mb(memory: Sequence[Taken]) -> float:
    return sum(each.pss_mb for each in memory)
