"""Carries the plan out: begins each fault at its time, ends it at its end, and heals everything at last."""

import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import psutil

from services.emulators.gcs_faults import Faults
from services.torture.cluster import Cluster, Member, limit_file_size, send
from services.torture.history import Accepted, History, Hurt, now
from services.torture.plan import Action, Fault, Kind, Plan
from shared.catalog import TOPIC_GPU
from shared.errors import PromptreelError
from shared.messages import Message
from shared.wiring import Wiring

# Whose key the clients use: the command line's own.
OWNER = "local"
# The jobs in work are among these.
_NEWEST = 60
# How long an armed point waits to be reached.
_ARMED_SECONDS = 12.0
# How long a stopped worker waits for another to take its job: a lease, and what that one has in hand.
_TAKE_OVER_SECONDS = 20.0
_NOTHING: Mapping[str, int] = MappingProxyType({})
_BUSY_SECONDS = 0.2
_DUPLICATES = 6
_BUCKET_FAILURES = 3

Healing = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class _Ongoing:
    """A fault that lasts."""

    until_seconds: float  # of the session
    heal: Healing
    # The jobs of a stopped worker that comes back in the moment when one of them is another's.
    held: Mapping[str, int]


class Tormentor:
    """Everything it hurts belongs to one cluster and its stores."""

    def __init__(
        self,
        plan: Plan,
        cluster: Cluster,
        wiring: Wiring,
        *,
        seed: int,
        history: History,
        bucket: Faults | None,
    ) -> None:
        self._coming = list(plan.faults)
        self._cluster = cluster
        self._wiring = wiring
        self._bucket = bucket
        self._history = history
        self._dice = random.Random(seed)
        self._ongoing: list[_Ongoing] = []
        self._armed: list[tuple[float, Fault]] = []
        self._begin_by_kind: Mapping[Kind, Callable[[Fault], Healing | None]] = {
            Kind.TRIP: self._arm,
            Kind.KILL: self._kill,
            Kind.STOP: self._stop,
            Kind.TERMINATE: self._terminate,
            Kind.KILL_RENDER: self._kill_render,
            Kind.STOP_RENDER: self._stop_render,
            Kind.DUPLICATE: self._duplicate,
            Kind.BUSY: self._keep_busy,
            Kind.FULL_DISK: self._fill_the_disk,
            Kind.BUCKET_FAILS: self._fail_the_bucket,
            Kind.BUCKET_DROPS: self._drop_an_answer,
        }
        self.counts: Counter[str] = Counter()
        self.missed = 0  # points that were armed and not reached in time
        self.latest = ""

    def tick(self, elapsed_seconds: float) -> None:
        """Begin what is due, end what is over."""
        while self._coming and self._coming[0].at_seconds <= elapsed_seconds:
            self._begin(self._coming.pop(0), elapsed_seconds)
        self._watch_armed(elapsed_seconds)
        for fault in [*self._ongoing]:
            if fault.until_seconds <= elapsed_seconds or self._is_taken_over(fault.held):
                self._ongoing.remove(fault)
                fault.heal()

    def heal(self) -> None:
        """End every fault."""
        self._coming.clear()
        for _, fault in self._armed:
            if fault.point is not None and self._member(fault).wires.disarm(fault.point):
                self.missed += 1
        self._armed.clear()
        for ongoing in self._ongoing:
            ongoing.heal()
        self._ongoing.clear()
        for process in self._cluster.living():
            send(process, signal.SIGCONT)

    # --- bookkeeping

    def _begin(self, fault: Fault, elapsed_seconds: float) -> None:
        self.latest = str(fault)
        jobs = self._jobs_of(fault.target)
        healing = self._begin_by_kind[fault.kind](fault)
        if healing is not None:
            self._last(fault, healing, jobs, elapsed_seconds)
        if fault.kind is Kind.TRIP:
            self._armed.append((elapsed_seconds + _ARMED_SECONDS, fault))
        else:
            self._feel(fault, jobs)

    def _watch_armed(self, elapsed_seconds: float) -> None:
        for entry in [*self._armed]:
            until, fault = entry
            assert fault.point is not None  # noqa: S101 - only such are armed
            wires = self._member(fault).wires
            if wires.has_fired(fault.point):
                self._armed.remove(entry)
                jobs = self._jobs_of(fault.target)
                self._feel(fault, jobs)
                if fault.action is Action.STOP:
                    self._last(fault, partial(self._continue, fault), jobs, elapsed_seconds)
            elif until <= elapsed_seconds:
                self._armed.remove(entry)
                if wires.disarm(fault.point):
                    self.missed += 1

    def _last(
        self, fault: Fault, heal: Healing, jobs: Mapping[str, int], elapsed_seconds: float
    ) -> None:
        seconds, held = fault.seconds, _NOTHING
        is_stop = fault.kind is Kind.STOP or fault.action is Action.STOP
        if is_stop and jobs and self._dice.choice((True, True, False)):
            seconds, held = _TAKE_OVER_SECONDS, jobs
        self._ongoing.append(
            _Ongoing(until_seconds=elapsed_seconds + seconds, heal=heal, held=held)
        )

    def _is_taken_over(self, held: Mapping[str, int]) -> bool:
        """The most dangerous moment to come back: another has begun with the job."""
        with suppress(PromptreelError):
            for job_id, attempt in held.items():
                job = self._wiring.store.get(job_id)
                if job.lease is not None and job.attempt > attempt:
                    return True
        return False

    def _feel(self, fault: Fault, attempts: Mapping[str, int]) -> None:
        self.counts[f"{fault.action} when {fault.point}" if fault.point else fault.kind] += 1
        killed = fault.kind is Kind.KILL or fault.action is Action.KILL
        self._history.add(
            Hurt(at=now(), fault=str(fault), target=fault.target, killed=killed, attempts=attempts)
        )

    def _jobs_of(self, target: str) -> Mapping[str, int]:
        """The jobs whose lease a process holds, each with its attempt; none where the store is mute."""
        with suppress(PromptreelError):
            newest = self._wiring.store.list(OWNER, kind="video", limit=_NEWEST)
            return {
                job.id: job.attempt
                for job in newest.jobs
                if job.lease and job.lease.worker.startswith(target)
            }
        return {}

    def _member(self, fault: Fault) -> Member:
        return self._cluster.members[fault.target]

    # --- the faults

    def _arm(self, fault: Fault) -> None:
        if fault.point is not None and fault.action is not None:
            self._member(fault).wires.arm(fault.point, fault.action)

    def _kill(self, fault: Fault) -> None:
        for process in self._victims(fault):
            send(process, signal.SIGKILL)

    def _stop(self, fault: Fault) -> Healing:
        for process in self._member(fault).server():
            send(process, signal.SIGSTOP)
        return partial(self._continue, fault)

    def _terminate(self, fault: Fault) -> None:
        self._member(fault).terminate()

    def _kill_render(self, fault: Fault) -> None:
        for process in self._member(fault).render_process():
            send(process, signal.SIGKILL)

    def _stop_render(self, fault: Fault) -> Healing:
        for process in self._member(fault).render_process():
            send(process, signal.SIGSTOP)
        return partial(self._continue, fault)

    def _continue(self, fault: Fault) -> None:
        for process in self._member(fault).family():
            send(process, signal.SIGCONT)

    def _duplicate(self, _fault: Fault) -> None:
        known = sorted({event.job_id for event in self._history.of(Accepted)})
        chosen = self._dice.sample(known, min(_DUPLICATES, len(known)))
        # In a thread: a queue whose file a stopped process holds must not keep the faults from ending.
        threading.Thread(target=self._publish, args=(chosen,), daemon=True).start()

    def _publish(self, job_ids: Sequence[str]) -> None:
        for job_id in job_ids:
            with suppress(PromptreelError):
                self._wiring.queue.publish(TOPIC_GPU, Message(job_id=job_id))

    def _keep_busy(self, _fault: Fault) -> Healing:
        """Hold the write lock of the job store's file, as a backup or a person may."""
        holder = sqlite3.connect(
            self._wiring.config.data_dir / "jobs.sqlite3",
            isolation_level=None,
            timeout=_BUSY_SECONDS,
        )
        with suppress(sqlite3.OperationalError):  # it is busy enough
            holder.execute("BEGIN IMMEDIATE")
        return holder.close

    def _fill_the_disk(self, fault: Fault) -> Healing:
        hurt = self._member(fault).family()
        for process in hurt:
            limit_file_size(process, 0)

        def make_room() -> None:
            for process in hurt:
                limit_file_size(process, None)

        return make_room

    def _fail_the_bucket(self, _fault: Fault) -> None:
        if self._bucket is not None:
            self._bucket.fail(_BUCKET_FAILURES)

    def _drop_an_answer(self, _fault: Fault) -> None:
        if self._bucket is not None:
            self._bucket.cut_answer()

    def _victims(self, fault: Fault) -> list[psutil.Process]:
        """The API is two processes; either may die."""
        family = self._member(fault).family()[:2]
        return [self._dice.choice(family)] if family and fault.target == "api" else family[:1]
