"""The sweep: whatever was lost between two steps of a job's life is found and mended here."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from shared import transitions as rules
from shared.config import Config
from shared.dispatch import dispatch
from shared.errors import JobNotFound, PromptreelError
from shared.job import IN_FLIGHT, TERMINAL, Job, JobStatus, artifact_folder
from shared.job_changes import change, has_ended
from shared.job_events import JobEvents
from shared.messages import TOPIC_WEBHOOKS, Message
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.webhooks import transitions as webhook_rules

# What is looked at together: enough that some jobs that cannot be mended do not hide all others.
_JOBS = 1000
_DEAD_LETTERS = 100
# Files are removed for so long, but for the calls at hand, and of so many jobs at once: each waits for
# the bucket, to which a client keeps ten connections.
_FILES_FOR = timedelta(seconds=60)
_FILES_AT_ONCE = 10

log = structlog.get_logger("promptreel.sweep")


class RemoteJobs(Protocol):
    """Who knows the providers that have jobs in work."""

    def look_after(self, job: Job) -> Job:
        """Ask how a job that has not ended is getting on, and do what follows from it."""


@dataclass(kw_only=True)
class SweepReport:
    """What one sweep did, in jobs."""

    published: int = 0
    requeued: int = 0
    asked: int = 0  # providers, about jobs they have been silent about
    ended: int = 0
    announced: int = 0  # ends, to couriers
    expired: int = 0
    tidied: int = 0
    forgotten: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def add(self, other: "SweepReport") -> None:
        for name, number in vars(other).items():
            setattr(self, name, getattr(self, name) + number)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Unpublished jobs, silent workers, dead letters, spent retention, files of nobody.

    Any number of sweeps may run at once, and be killed between any two steps.
    """

    config: Config
    store: JobStore
    queue: MessageQueue
    artifacts: ArtifactStore
    events: JobEvents
    now: Callable[[], datetime]
    remote: RemoteJobs | None = None

    def run(self) -> SweepReport:
        """First the jobs that somebody waits for, however many files are to be removed."""
        done = SweepReport()
        for job in self._due(IN_FLIGHT):
            done.add(self._swept(job))
        self._sweep_all_ended(done)
        # Last: a queue that is away keeps no file beyond its retention.
        for delivery in self.queue.dead_letters(limit=_DEAD_LETTERS):
            self._bury(delivery.message.job_id, done)
            self.queue.acknowledge(delivery)
        if done:
            log.info("swept", **vars(done))
        return done

    def tidy(self, job: Job) -> None:
        """Remove the files of an ended job that are nobody's result, or not any more."""
        self._remove_files(job)
        self.store.update(job.id, rules.leftovers_removed)

    def _due(self, statuses: Collection[JobStatus]) -> Sequence[Job]:
        return self.store.due(self.now(), limit=_JOBS, statuses=statuses)

    def _sweep_all_ended(self, done: SweepReport) -> None:
        stops_at = self.now() + _FILES_FOR
        while ended := self._due(TERMINAL):
            with ThreadPoolExecutor(min(_FILES_AT_ONCE, len(ended))) as threads:
                swept = [
                    threads.submit(copy_context().run, self._swept, job, until=stops_at)
                    for job in ended
                ]
            reports = [each.result() for each in swept]
            for report in reports:
                done.add(report)
            if len(ended) < _JOBS or not any(reports):
                break

    def _swept(self, job: Job, *, until: datetime | None = None) -> SweepReport:
        done = SweepReport()
        if until is not None and self.now() >= until:
            return done
        try:
            self._sweep_one(job, done)
        except JobNotFound:
            pass  # Another sweep was faster.
        except PromptreelError as error:
            # It stays due; one job that cannot be mended must not keep the others waiting.
            log.warning("job not swept", job_id=job.id, code=error.code, reason=error.message)
        return done

    def _sweep_one(self, job: Job, done: SweepReport) -> None:
        if job.status.is_terminal:
            self._sweep_ended(job, done)
        elif job.remote is not None:
            self._ask_provider(job, done)
        elif job.lease is not None:
            self._take_back(job, done)
        else:
            self._dispatch(job)
            done.published += 1

    def _ask_provider(self, job: Job, done: SweepReport) -> None:
        if self.remote is not None:
            self.remote.look_after(job)
            done.asked += 1

    def _take_back(self, job: Job, done: SweepReport) -> None:
        after = self._mend(job.id, partial(rules.requeue_expired, now=self.now()), done)
        if not after.status.is_terminal and after.lease is None:
            self.events.tell("lease expired, job goes back to the queue", after)
            self._dispatch(after)
            done.requeued += 1

    def _mend(self, job_id: str, rule: Callable[[Job], Job], done: SweepReport) -> Job:
        """The job after the rule. An end is told if it is this one: whoever else ended it, told it."""
        before, after = change(self.store, job_id, rule)
        if has_ended(before, after):
            self.events.ended(after)
            done.ended += 1
        return after

    def _sweep_ended(self, job: Job, done: SweepReport) -> None:
        """Each step may be the last one of a sweep that is killed: the next sweep goes on there."""
        if job.kept_until is not None and self.now() < job.kept_until:
            self._wake_courier(job)
            done.announced += 1
        elif job.leftovers:
            self.tidy(job)
            done.tidied += 1
        elif job.artifacts:
            # First the word, then the deed: nobody is led to a file that is gone.
            job = self.store.update(job.id, partial(rules.expire_artifacts, now=self.now()))
            done.expired += 1
            self.tidy(job)
        else:
            self._remove_files(job)  # Again: an upload may have come very late.
            self.store.delete(job.id)
            done.forgotten += 1

    def _wake_courier(self, job: Job) -> None:
        self.queue.publish(TOPIC_WEBHOOKS, Message(job_id=job.id, traceparent=job.traceparent))
        self.store.update(job.id, partial(webhook_rules.mark_published, now=self.now()))

    def _remove_files(self, job: Job) -> None:
        """Where the job says they are, and where an unfinished attempt would have put them."""
        for artifact in job.artifacts:
            # The prefix may have been another one when the job was finished.
            self.artifacts.delete(artifact.key)
        for key in job.input_keys:
            self.artifacts.delete(key)
        folder = artifact_folder(job, prefix=self.config.artifacts.prefix)
        self.artifacts.delete_all(folder)

    def _bury(self, job_id: str, done: SweepReport) -> None:
        with suppress(JobNotFound):
            self._mend(job_id, partial(rules.dead_letter, now=self.now()), done)

    def _dispatch(self, job: Job) -> None:
        dispatch(job, store=self.store, queue=self.queue, now=self.now())
