"""`promptreel list`: the jobs there are, the newest first."""

from itertools import islice

from services.cli.connection import connected
from services.cli.job_ids import newest
from services.cli.job_progress import time_left
from services.cli.output import Output
from shared.schemas import JobDetails, Status


def list_jobs(
    status: Status | None, limit: int | None, *, server: str | None, output: Output
) -> None:
    """A line a job, as soon as its page is there."""
    with connected(server) as client:
        found = False
        for job in islice(newest(client, status), limit):
            if not found and not output.as_json:
                output.result(_line("ID", "STATUS", "DONE", "CREATED", ""), {})
            found = True
            output.result(_row(job), job.model_dump(mode="json"))
        if not found:
            output.remark('No jobs. `promptreel submit "PROMPT"` makes one.')


def _row(job: JobDetails) -> str:
    created = f"{job.created_at.astimezone():%Y-%m-%d %H:%M}"
    return _line(job.id, job.status, f"{job.progress}%", created, _remark(job))


def _remark(job: JobDetails) -> str:
    """What is most worth knowing about it."""
    if job.error is not None:
        return job.error.code
    if job.queue_position is not None:
        return f"number {job.queue_position}"
    if job.cost_usd is not None:
        return f"${job.cost_usd:.4f}"
    return time_left(job.estimated_seconds_left)


def _line(job_id: str, status: str, done: str, created: str, remark: str) -> str:
    return f"{job_id:<36}  {status:<8}  {done:>4}  {created:<16}  {remark}".rstrip()
