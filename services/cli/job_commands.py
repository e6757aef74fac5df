"""The commands that talk to a server: their arguments. What they do is in a file each."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli.exits import sigterm_interrupts, told_plainly
from services.cli.output import Output, console

if TYPE_CHECKING:
    from shared import schemas

commands = typer.Typer()


def _complete_job_id(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    from services.cli.job_ids import completions

    return completions(context.params.get("server"), incomplete)


def _complete_server(incomplete: str) -> list[str]:
    from services.cli.servers import names

    return [name for name in names() if name.startswith(incomplete)]


class Status(StrEnum):
    QUEUED = "queued"
    STARTED = "started"
    PROGRESS = "progress"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


class Kind(StrEnum):
    VIDEO = "video"
    POSTER = "poster"
    SPRITESHEET = "spritesheet"
    SEAMS = "seams"


JobId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A job's id, its first letters, or `last` for the newest job.",
        autocompletion=_complete_job_id,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        help="One of `promptreel servers list`, or local.", autocompletion=_complete_server
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else.")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="A file or a folder; by default named by the id.")
]


@commands.command()
def submit(
    prompt: Annotated[str, typer.Argument(help="What the video shows; - reads it from stdin.")],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Until the job has ended.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Wait, and save the video there.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key and prompt give the same job.")
    ] = None,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Submit a prompt to a server and print the job's id."""
    from services.cli.submit import submit as run

    with told_plainly(console()):
        sigterm_interrupts()
        run(prompt, wait, out, idempotency_key, server=server, output=Output(json))


@commands.command()
def watch(
    job_id: JobId,
    *,
    logs: Annotated[bool, typer.Option("--logs", help="The job's log above the bar.")] = False,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Watch a job until it has ended. Ctrl-C stops watching, not the job."""
    from services.cli.watch import watch as run

    with told_plainly(console()):
        sigterm_interrupts()
        run(job_id, logs=logs, server=server, output=Output(json))


@commands.command("list")
def list_command(
    *,
    status: Annotated[Status | None, typer.Option(help="Only jobs of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    every: Annotated[bool, typer.Option("--all", help="All there are.")] = False,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """List jobs, the newest first."""
    from services.cli.list_jobs import list_jobs as run

    with told_plainly(console()):
        asked = cast("schemas.Status | None", status and status.value)
        run(asked, None if every else limit, server=server, output=Output(json))


@commands.command()
def fetch(
    job_id: JobId,
    *,
    out: OutOption = None,
    kind: Annotated[Kind, typer.Option(help="Which file of the job.")] = Kind.VIDEO,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Download a finished job's file. One that broke off goes on where it stopped."""
    from services.cli.fetch import fetch as run

    with told_plainly(console()):
        sigterm_interrupts()
        run(job_id, out, kind.value, server=server, output=Output(json))


@commands.command()
def cancel(job_id: JobId, *, server: ServerOption = None, json: JsonOption = False) -> None:
    """Cancel a job."""
    from services.cli.cancel import cancel as run

    with told_plainly(console()):
        run(job_id, server=server, output=Output(json))


@commands.command()
def logs(
    job_id: JobId,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")
    ] = False,
    tail: Annotated[int | None, typer.Option(min=1, help="Only the newest lines.")] = None,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Print a job's log."""
    from services.cli.logs import logs as run

    with told_plainly(console()):
        sigterm_interrupts()
        run(job_id, follow=follow, tail=tail, server=server, output=Output(json))


@commands.command()
def usage(*, server: ServerOption = None, json: JsonOption = False) -> None:
    """Print how many pictures are left this month."""
    from services.cli.usage import usage as run

    with told_plainly(console()):
        run(server=server, output=Output(json))
