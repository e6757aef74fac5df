"""FastAPI before RQ, as people usually build it: enqueue, answer with the id, look the job up."""

import os

from fastapi import FastAPI, HTTPException
from noop import render
from pydantic import BaseModel
from redis import Redis
from rq import Queue, Retry
from rq.exceptions import NoSuchJobError
from rq.job import Job

_ATTEMPTS = 3  # as many as Promptreel gives a job

redis = Redis.from_url(os.environ["REDIS_URL"])
queue = Queue("render", connection=redis)
app = FastAPI()


class Order(BaseModel):
    prompt: str


class Told(BaseModel):
    id: str
    status: str
    video: str | None = None


@app.post("/jobs", status_code=202)
def submit(order: Order) -> Told:
    job = queue.enqueue(render, order.prompt, retry=Retry(max=_ATTEMPTS - 1))
    return Told(id=job.id, status="queued")


@app.get("/jobs/{job_id}")
def look_up(job_id: str) -> Told:
    try:
        job = Job.fetch(job_id, connection=redis)
    except NoSuchJobError:
        raise HTTPException(404) from None
    result = job.return_value()
    return Told(id=job.id, status=job.get_status(), video=None if result is None else str(result))
