"""Celery over Redis, set as its documentation advises for tasks that are long and may be repeated.

``task_acks_late``, ``task_reject_on_worker_lost`` and a prefetch of one: a job that a worker dies in is
given to another. ``visibility_timeout`` is left at its hour, which a render must not outlive.
"""

import os

from celery import Celery
from noop import render

app = Celery("jobs", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)


@app.task(name="render")
def make_video(prompt: str) -> str:
    return str(render(prompt))
