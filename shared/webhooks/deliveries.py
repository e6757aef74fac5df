"""The log of deliveries: what an owner was told, and what is on its way. The jobs remember it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from shared.errors import JobNotFound
from shared.job import Job, JobKind
from shared.messages import TOPIC_WEBHOOKS, Message
from shared.ports import JobPage, JobStore, MessageQueue
from shared.webhook import WebhookStatus
from shared.webhooks import transitions as rules

# How many jobs a page looks through at most: deliveries of one status may be rare among them.
_LOOKED_THROUGH = 1000


@dataclass(frozen=True, kw_only=True)
class Deliveries:
    """Every method may raise ``StoreUnavailable``."""

    store: JobStore
    queue: MessageQueue
    now: Callable[[], datetime]

    def list(
        self,
        owner: str,
        *,
        kind: JobKind,
        limit: int,
        after: str | None = None,
        status: WebhookStatus | None = None,
    ) -> tuple[JobPage, str | None]:
        """A page of the jobs that were or are to be told of, newest first, and where the next begins.

        A page may be short and have more after it. Raises ``JobNotFound`` for ``after``.
        """
        shown: list[Job] = []
        looked_through = 0
        while True:
            page = self.store.list(owner, kind=kind, limit=limit, after=after)
            for job in page.jobs:
                after = job.id
                looked_through += 1
                if _is_shown(job, status):
                    shown.append(job)
                if len(shown) == limit or looked_through == _LOOKED_THROUGH:
                    more = page.has_more or job is not page.jobs[-1]
                    return JobPage(jobs=shown, has_more=more), after
            if not page.has_more:
                return JobPage(jobs=shown, has_more=False), after

    def get(self, job_id: str, *, owner: str) -> Job:
        """A job that has ended and has a webhook. Raises ``JobNotFound``, and ``WebhookNotFound``."""
        job = self.store.get(job_id)
        if job.owner != owner or job.hidden_at is not None:
            raise JobNotFound
        rules.webhook_of(job)
        return job

    def redeliver(self, job_id: str, *, owner: str) -> Job:
        """Send it now, with all its retries. Raises as ``get``, ``JobNotTerminal``, ``QueueUnavailable``."""
        self.get(job_id, owner=owner)
        job = self.store.update(job_id, partial(rules.redeliver, now=self.now()))
        self.queue.publish(TOPIC_WEBHOOKS, Message(job_id=job.id, traceparent=job.traceparent))
        return self.store.update(job_id, partial(rules.mark_published, now=self.now()))


def _is_shown(job: Job, status: WebhookStatus | None) -> bool:
    if job.webhook is None or job.webhook.status is WebhookStatus.WAITING:
        return False
    return status is None or job.webhook.status is status
