"""The whole run: every service in turn, round by round, then the polls, then the faults."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from figures import machine, percentile

from peers.accounting import Toll
from peers.environments import CannotSetUp
from peers.fault_run import measure_fault
from peers.installation import Installation, LoadFailed, running
from peers.plan import Plan, Victim
from peers.results import Found, Report
from peers.service_run import Samples, measure_polls, measure_round
from peers.systems.system import System, Tools

_MINUTE_SECONDS = 60.0
_DIGITS = 2

Tell = Callable[[str], None]


@dataclass
class _Bench:
    """One service on the bench."""

    system: System
    samples: Samples = field(default_factory=Samples)
    tolls: dict[str, Toll] = field(default_factory=dict)
    skipped: str | None = None


class Run:
    def __init__(
        self,
        systems: Sequence[System],
        plan: Plan,
        *,
        tools: Tools,
        folder: Path,
        tell: Tell,
        warn: Tell,
        advance: Callable[[], None],
    ) -> None:
        """``tell`` hears what it is at, ``warn`` who is skipped; ``advance`` is called after each of the ``stages``."""
        self._benches = [_Bench(system) for system in systems]
        self._plan = plan
        self._tools = tools
        self._folder = folder
        self._tell = tell
        self._warn = warn
        self._advance = advance
        self._installations = 0

    @property
    def stages(self) -> int:
        return len(self._benches) * (self._plan.rounds + 1 + len(self._plan.victims))

    def measure(self) -> Report:
        where, began = machine(), time.monotonic()
        for number in range(self._plan.rounds):
            # Nobody is always the first one.
            shift = number % len(self._benches)
            for bench in self._benches[shift:] + self._benches[:shift]:
                self._stage(bench, partial(self._round, bench, number))
        for bench in self._benches:
            self._stage(bench, partial(self._polls, bench))
        for victim in self._plan.victims:
            for bench in self._benches:
                self._stage(bench, partial(self._fault, bench, victim))
        late_ms = [late for bench in self._benches for late in bench.samples.late_ms]
        return Report(
            plan=self._plan,
            machine=where,
            minutes=round((time.monotonic() - began) / _MINUTE_SECONDS, 1),
            late_p99_ms=round(percentile(late_ms, 99), _DIGITS) if late_ms else None,
            redis=self._redis_version(),
            services=[_found(bench) for bench in self._benches],
        )

    def _stage(self, bench: _Bench, measure: Callable[[Installation], None]) -> None:
        """From nothing; who cannot be set up is passed over from then on, and it is said why."""
        try:
            if bench.skipped is None:
                self._measure_in_a_new_place(bench, measure)
        except (CannotSetUp, LoadFailed) as reason:
            bench.skipped = str(reason)
            self._warn(f"{bench.system.title} is skipped: {reason}")
        finally:
            self._advance()

    def _measure_in_a_new_place(
        self, bench: _Bench, measure: Callable[[Installation], None]
    ) -> None:
        self._installations += 1
        folder = self._folder / f"{self._installations}-{bench.system.name}"
        self._tell(f"{bench.system.title}: starting")
        delay_seconds = self._plan.delay_seconds
        with running(bench.system, self._tools, folder, delay_seconds=delay_seconds) as there:
            measure(there)

    def _round(self, bench: _Bench, number: int, there: Installation) -> None:
        for step in measure_round(there, self._plan, bench.samples, name=f"round-{number}"):
            self._tell(f"{bench.system.title}, round {number + 1}: {step}")

    def _polls(self, bench: _Bench, there: Installation) -> None:
        if there.dialect.status is None:
            return
        for step in measure_polls(there, self._plan, bench.samples):
            self._tell(f"{bench.system.title}: {step}")

    def _fault(self, bench: _Bench, victim: Victim, there: Installation) -> None:
        self._tell(f"{bench.system.title}: kill -9 {victim}")
        bench.tolls[victim] = measure_fault(there, self._plan, victim)

    def _redis_version(self) -> str | None:
        with suppress(CannotSetUp):
            if any("redis" in bench.system.versions for bench in self._benches):
                return self._tools.redis.version
        return None


def _found(bench: _Bench) -> Found:
    system, samples = bench.system, bench.samples
    return Found(
        name=system.name,
        title=system.title,
        versions=dict(system.versions),
        keeps=system.keeps,
        set_as=system.set_as,
        keeps_what_it_accepts=system.keeps_what_it_accepts,
        skipped=bench.skipped,
        figures=samples.figures(),
        empty={**samples.notes, **system.lacks},
        memory=samples.memory,
        tolls=bench.tolls,
        load_cpu_shares=samples.load_cpu_shares,
    )
