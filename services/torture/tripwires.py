"""Ports at which a process can be cut off: as if it had died between two of its lines.

A point is armed by a file in the process's folder, which names the action; the process takes the file
away before it acts, so a point goes off once. The programs themselves know nothing of this.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import cast

from services.torture.plan import Action, Point
from shared import transitions as rules
from shared.config import Config
from shared.job import Job, JobStatus
from shared.lifecycle import utc_now
from shared.messages import Message
from shared.ports import ArtifactStore, JobStore, MessageQueue, StoredFile
from shared.wiring import Wiring, wire

_FIRED = ".fired"
_SIGNAL_SECONDS = 0.2
_BREACHES = "breaches"

_SIGNALS = {
    Action.KILL: signal.SIGKILL,
    Action.STOP: signal.SIGSTOP,
    Action.TERMINATE: signal.SIGTERM,
}


class Tripwires:
    """One process's folder of armed points."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def arm(self, point: Point, action: Action) -> None:
        draft = self._folder / f"{point}.draft"
        draft.write_text(action)
        draft.rename(self._folder / point)

    def disarm(self, point: Point) -> bool:
        """False if it has gone off."""
        try:
            (self._folder / point).unlink()
        except FileNotFoundError:
            return False
        return True

    def has_fired(self, point: Point) -> bool:
        """True once for each time it went off."""
        try:
            (self._folder / f"{point}{_FIRED}").unlink()
        except FileNotFoundError:
            return False
        return True

    def note_breach(self, what: str) -> None:
        with (self._folder / _BREACHES).open("a") as file:
            file.write(f"{what}\n")

    def breaches(self) -> list[str]:
        """What was done by a worker that had no right to it."""
        file = self._folder / _BREACHES
        return file.read_text().splitlines() if file.exists() else []

    def reach(self, point: Point) -> None:
        """The process is at a point; if that is armed, this may be the last it does."""
        armed = self._folder / point
        fired = self._folder / f"{point}{_FIRED}"
        try:
            armed.rename(fired)
        except FileNotFoundError:
            return
        action = Action(fired.read_text())
        os.kill(os.getpid(), _SIGNALS[action])
        if action is not Action.TERMINATE:
            # The signal takes a moment, in which this thread must not get any further.
            time.sleep(_SIGNAL_SECONDS)


def wire_with_tripwires(config: Config, *, folder: Path, clock_skew_seconds: float = 0) -> Wiring:
    """The configured adapters behind tripwires, used by a process whose clock goes wrong."""
    wiring, wires = wire(config), Tripwires(folder)
    # They hand on whatever they do not know, which no type checker can see.
    store = cast("JobStore", _Store(wiring.store, wires))
    queue = cast("MessageQueue", _Queue(wiring.queue, wires))
    artifacts = cast("ArtifactStore", _Artifacts(wiring.artifacts, wires))
    skew = timedelta(seconds=clock_skew_seconds)
    lifecycle = replace(
        wiring.lifecycle,
        store=store,
        queue=queue,
        artifacts=artifacts,
        now=lambda: utc_now() + skew,
    )
    return replace(wiring, store=store, queue=queue, artifacts=artifacts, lifecycle=lifecycle)


# The point at which a process is before a transition is stored, and the one after.
_BEFORE: Mapping[Callable[..., Job], Point] = MappingProxyType(
    {
        rules.complete: Point.UPLOADED,
        rules.acknowledge_cancel: Point.CANCELING,
        rules.fail: Point.FAILING,
        rules.retry: Point.FAILING,
    }
)
_AFTER: Mapping[Callable[..., Job], Point] = MappingProxyType(
    {
        rules.claim: Point.CLAIMED,
        rules.report: Point.REPORTED,
        rules.complete: Point.COMPLETED,
    }
)


class _Store:
    def __init__(self, store: JobStore, wires: Tripwires) -> None:
        self._store = store
        self._wires = wires

    def update(self, job_id: str, transition: Callable[[Job], Job]) -> Job:
        rule = transition.func if isinstance(transition, partial) else transition
        if (point := _BEFORE.get(rule)) is not None:
            self._wires.reach(point)
        job = self._store.update(job_id, self._watched(transition))
        if (point := _AFTER.get(rule)) is not None:
            self._wires.reach(point)
        elif job.attempt > 0 and job.status is JobStatus.QUEUED and job.published_at is None:
            self._wires.reach(Point.REQUEUED)
        return job

    def _watched(self, transition: Callable[[Job], Job]) -> Callable[[Job], Job]:
        """The same transition; that it was let through without the right to it is noted."""

        def watched(job: Job) -> Job:
            changed = transition(job)
            if isinstance(transition, partial) and not _has_right(transition, job):
                self._wires.note_breach(f"{job.id}, attempt {job.attempt}")
            return changed

        return watched

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


def _has_right(transition: "partial[Job]", job: Job) -> bool:
    """By the lease; and whoever finds no live one may claim the job, or end it by claiming it."""
    said = transition.keywords
    if transition.func is rules.claim:
        return job.lease is None or said["now"] >= job.lease.expires_at
    return said.get("token") in (None, job.lease.token if job.lease else None)


class _Queue:
    def __init__(self, queue: MessageQueue, wires: Tripwires) -> None:
        self._queue = queue
        self._wires = wires

    def publish(self, topic: str, message: Message) -> None:
        self._wires.reach(Point.ADMITTED)
        self._queue.publish(topic, message)
        self._wires.reach(Point.PUBLISHED)

    def __getattr__(self, name: str) -> object:
        return getattr(self._queue, name)


class _Artifacts:
    def __init__(self, artifacts: ArtifactStore, wires: Tripwires) -> None:
        self._artifacts = artifacts
        self._wires = wires

    def put(self, key: str, source: Path, *, content_type: str) -> StoredFile:
        stored = self._artifacts.put(key, source, content_type=content_type)
        self._wires.reach(Point.UPLOADING)
        return stored

    def __getattr__(self, name: str) -> object:
        return getattr(self._artifacts, name)
