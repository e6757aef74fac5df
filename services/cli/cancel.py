"""`promptreel cancel`: a job is not wanted any more."""

from services.cli.connection import connected
from services.cli.job_ids import job_id_of
from services.cli.output import Output


def cancel(said: str, *, server: str | None, output: Output) -> None:
    with connected(server) as client:
        job_id = job_id_of(client, said)
        client.cancel(job_id)
        output.result(f"canceled {job_id}", {"id": job_id, "canceled": True})
