"""`promptreel watch`: what becomes of a job, as it happens."""

from services.cli.connection import connected
from services.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, CommandFailed
from services.cli.job_ids import job_id_of
from services.cli.job_progress import JobProgress
from services.cli.output import Output, console
from shared.client import Promptreel
from shared.client.following import JobChanged, JobEnded, JobEvent, LogLine


def watch(said: str, *, logs: bool, server: str | None, output: Output) -> None:
    with connected(server) as client:
        see_through(client, job_id_of(client, said), logs=logs, output=output)


def see_through(client: Promptreel, job_id: str, *, logs: bool, output: Output) -> None:
    """Until the job has finished. Raises ``CommandFailed`` if it has not, or nobody looks any more."""

    def show(event: JobEvent) -> None:
        progress.show(event)
        _tell(event, logs=logs, output=output)

    try:
        with JobProgress(console(), logs=logs and not output.as_json) as progress:
            job = client.wait(job_id, on_event=show)
    except KeyboardInterrupt:
        raise CommandFailed(
            f"Stopped watching; the job goes on. `promptreel watch {job_id}` watches it again, "
            f"`promptreel cancel {job_id}` ends it.",
            EXIT_INTERRUPTED,
        ) from None
    if job.status != "finished":
        reason = job.error.message if job.error else f"the job was {job.status}."
        raise CommandFailed(f"No video: {reason}", EXIT_FAILED)


def _tell(event: JobEvent, *, logs: bool, output: Output) -> None:
    match event:
        case JobChanged():
            output.data({"event": "job", "job": event.job.model_dump(mode="json")})
        case JobEnded():
            output.data({"event": "end", "job": event.job.model_dump(mode="json")})
        case LogLine() if logs:
            output.data({"event": "log", "number": event.number, "line": event.line})
