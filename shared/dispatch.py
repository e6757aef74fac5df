"""Waking a worker for a job."""

from datetime import datetime
from functools import partial

from shared import transitions as rules
from shared.catalog import find_model
from shared.job import Job
from shared.messages import Message
from shared.ports import JobStore, MessageQueue


def dispatch(job: Job, *, store: JobStore, queue: MessageQueue, now: datetime) -> Job:
    """Send the job's message, and note that it was sent: a crash in between sends another.

    Returns the job as it was sent, whatever a quick worker has made of it since.
    """
    message = Message(job_id=job.id, traceparent=job.traceparent)
    queue.publish(find_model(job.request.model).topic, message)
    sent = partial(rules.mark_published, now=now)
    store.update(job.id, sent)
    return sent(job)
