"""`promptreel fetch`: a finished job's file, whole."""

from pathlib import Path

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from services.cli.connection import connected
from services.cli.exits import EXIT_INTERRUPTED, EXIT_USAGE, CommandFailed
from services.cli.job_ids import job_id_of
from services.cli.output import Output, console
from shared.client import Promptreel
from shared.client.server import file_name


def fetch(said: str, out: Path | None, kind: str, *, server: str | None, output: Output) -> None:
    with connected(server) as client:
        save(client, job_id_of(client, said), out, kind, output)


def save(client: Promptreel, job_id: str, out: Path | None, kind: str, output: Output) -> None:
    """Says where it is. Raises ``CommandFailed`` where it cannot be written."""
    target = _target(client, job_id, out, kind)
    try:
        _download(client, job_id, target, kind)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise CommandFailed(f"{target} cannot be written: {reason}.", EXIT_USAGE) from None
    except KeyboardInterrupt:
        raise CommandFailed(
            f"Stopped. `promptreel fetch {job_id} --out {target}` goes on where it was.",
            EXIT_INTERRUPTED,
        ) from None
    size = target.stat().st_size
    output.remark(f"saved {target}  ({size / 1e6:.1f} MB)")
    output.data({"id": job_id, "kind": kind, "path": str(target), "bytes": size})


def _download(client: Promptreel, job_id: str, target: Path, kind: str) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console(), disable=not console().is_terminal) as progress:
        task = progress.add_task(target.name, total=None)
        client.download(
            job_id,
            target,
            kind,
            on_bytes=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _target(client: Promptreel, job_id: str, out: Path | None, kind: str) -> Path:
    if out is not None and not out.is_dir():
        return out
    link = client.artifact(job_id, kind)
    return (out or Path()) / file_name(job_id, kind, link.url)
