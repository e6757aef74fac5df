"""One session: let the crowd in, hurt, heal, wait for every job, look at what is there, judge."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from services.torture import evidence as found
from services.torture.crowd import Client
from services.torture.evidence import Evidence
from services.torture.history import Accepted, History, Hurt, Seen
from services.torture.invariants import Violation, check
from services.torture.measures import Measured, Recoveries, cancels_of_running_jobs
from services.torture.plan import Plan
from services.torture.setting import Place, Setting, set_up
from services.torture.tormentor import Tormentor
from shared.job import to_document
from shared.lifecycle import utc_now
from shared.telemetry import configure_logging
from shared.wiring import Wiring

_CLIENTS = 4
_TICK_SECONDS = 0.1
# Whatever has not ended so long after the last fault never will: a job with all its attempts before it,
# each of which may wait a minute for its message.
_HEALING_SECONDS = 360.0
# The sweep puts some things off for a minute: it is asked for as if that were over.
_LATER = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Glance:
    """What a person who waits wants to see."""

    elapsed_seconds: float
    seconds: float
    accepted: int
    ended: int
    faults: int
    doing: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether everything held, and what was measured on the way."""

    violations: Sequence[Violation]
    plan: Plan
    faults: Mapping[str, int]
    points_missed: int
    jobs: Mapping[str, int]  # by last status
    attempts: int
    starts: int  # of programs
    cancels_in_calm: Sequence[float]  # seconds
    cancels_under_faults: Sequence[float]  # seconds
    recoveries: Sequence[float]  # seconds
    errors_logged: Sequence[str]


def hold_session(place: Place, plan: Plan, *, seed: int, show: Callable[[Glance], None]) -> Verdict:
    """Everything that happens stays in the place's folder. Raises ``TortureFailed``."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with (place.folder / "torture.log").open("w") as log:
        configure_logging("json", service="torture", stream=log)
        with set_up(place, plan) as setting:
            session = _Session(place, setting, plan, seed=seed, show=show)
            try:
                return session.hold()
            finally:
                session.close()


class _Session:
    def __init__(
        self,
        place: Place,
        setting: Setting,
        plan: Plan,
        *,
        seed: int,
        show: Callable[[Glance], None],
    ) -> None:
        self._place = place
        self._setting = setting
        self._plan = plan
        self._show = show
        self._history = History(place.folder / "history.jsonl")
        self._recoveries = Recoveries(setting.wiring.store)
        self._tormentor = Tormentor(
            plan,
            setting.cluster,
            setting.wiring,
            seed=seed,
            history=self._history,
            bucket=setting.cloud.gcs.faults if setting.cloud else None,
        )
        self._clients = [
            Client(
                place.url,
                setting.key,
                self._history,
                dice=random.Random(f"{seed}-{number}"),
                real_renders=place.real_model_dir is not None,
            )
            for number in range(_CLIENTS)
        ]

    def hold(self) -> Verdict:
        for client in self._clients:
            client.start()
        began_at = time.time()
        self._torment()
        self._wait_for_the_last_job()
        did_not_stop = self._setting.cluster.stop()
        _sweep_later(self._setting.wiring)
        evidence = self._look(did_not_stop)
        return self._judge(evidence, calm_until=began_at + self._plan.calm_seconds)

    def close(self) -> None:
        for client in self._clients:
            client.leave()
        self._history.close()

    def _torment(self) -> None:
        began = time.monotonic()
        while (elapsed_seconds := time.monotonic() - began) < self._plan.seconds:
            if elapsed_seconds >= self._plan.calm_seconds:
                self._end_calm()
            self._tormentor.tick(elapsed_seconds)
            self._recoveries.watch(self._history)
            self._tell(elapsed_seconds, self._tormentor.latest or "calm, to compare with")
            time.sleep(_TICK_SECONDS)
        self._tormentor.heal()

    def _end_calm(self) -> None:
        for client in self._clients:
            client.end_calm()

    def _wait_for_the_last_job(self) -> None:
        for client in self._clients:
            client.submit_no_more()
        deadline = time.monotonic() + _HEALING_SECONDS
        while time.monotonic() < deadline and any(client.is_alive() for client in self._clients):
            self._recoveries.watch(self._history)
            self._tell(self._plan.seconds, "healed; every job must end now")
            time.sleep(_TICK_SECONDS)
        for client in self._clients:
            client.leave()
            client.join()

    def _tell(self, elapsed_seconds: float, doing: str) -> None:
        ended = {event.job_id for event in self._history.of(Seen) if event.is_end}
        self._show(
            Glance(
                elapsed_seconds=elapsed_seconds,
                seconds=self._plan.seconds,
                accepted=len({event.job_id for event in self._history.of(Accepted)}),
                ended=len(ended),
                faults=len(self._history.of(Hurt)),
                doing=doing,
            )
        )

    def _look(self, did_not_stop: Sequence[str]) -> Evidence:
        setting, config = self._setting, self._setting.wiring.config
        bucket = config.artifacts.bucket
        if setting.cloud:
            files = found.files_in_bucket(setting.cloud.gcs.url, bucket)
        else:
            files = found.files_on_disk(config.data_dir / "artifacts" / bucket)
        jobs = found.jobs_in(setting.wiring)
        with (self._place.folder / "jobs.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(to_document(job) + "\n" for job in jobs.values())
        logs = [member.log_file for member in setting.cluster.members.values()]
        return Evidence(
            jobs=jobs,
            files=files,
            partial_files=found.left_in(
                config.data_dir / "work", config.data_dir / "artifacts" / ".partial"
            ),
            endings=found.endings_in(logs),
            breaches=[
                f"{name}: {breach}"
                for name, member in setting.cluster.members.items()
                for breach in member.wires.breaches()
            ],
            processes=found.outlived(setting.cluster),
            did_not_stop=did_not_stop,
            errors_logged=found.errors_in(logs),
        )

    def _judge(self, evidence: Evidence, *, calm_until: float) -> Verdict:
        cancels = cancels_of_running_jobs(self._history)
        jobs = evidence.jobs.values()
        members = self._setting.cluster.members.values()
        return Verdict(
            violations=check(self._history, evidence),
            plan=self._plan,
            faults=self._tormentor.counts,
            points_missed=self._tormentor.missed,
            jobs=Counter(job.status.value for job in jobs),
            attempts=sum(job.attempt for job in jobs),
            starts=sum(member.starts for member in members),
            cancels_in_calm=_seconds(cancels, until=calm_until),
            cancels_under_faults=_seconds(cancels, since=calm_until),
            recoveries=_seconds(self._recoveries.done),
            errors_logged=evidence.errors_logged,
        )


def _sweep_later(wiring: Wiring) -> None:
    """What the next sweeps of a healthy installation would do."""
    replace(wiring.lifecycle, now=lambda: utc_now() + _LATER).sweep()


def _seconds(
    measured: Sequence[Measured], *, since: float = 0.0, until: float = float("inf")
) -> Sequence[float]:
    return [each.seconds for each in measured if since <= each.began_at < until]
