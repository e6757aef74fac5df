"""FastAPI before Celery, as people usually build it: delay, answer with the id, look the result up."""

from celery.result import AsyncResult
from celery_jobs import app as jobs
from celery_jobs import make_video
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Order(BaseModel):
    prompt: str


class Told(BaseModel):
    id: str
    status: str
    video: str | None = None


@app.post("/jobs", status_code=202)
def submit(order: Order) -> Told:
    return Told(id=make_video.delay(order.prompt).id, status="PENDING")


@app.get("/jobs/{job_id}")
def look_up(job_id: str) -> Told:
    """Celery knows no job that it does not know: such a one is ``PENDING`` for good."""
    result = AsyncResult(job_id, app=jobs)
    state = result.state
    return Told(id=job_id, status=state, video=result.result if state == "SUCCESS" else None)
