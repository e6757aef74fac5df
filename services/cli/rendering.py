"""`promptreel render`: one prompt, seen through to a file, with progress."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from services.cli.client_key import client_key
from services.cli.exits import CommandFailed
from services.cli.service import Service, ServiceFailed, free_port, local_url, port_is_free
from shared.client import Promptreel
from shared.client.errors import ApiError, ClientError
from shared.client.following import TERMINAL
from shared.config import Config
from shared.schemas import JobView

_POLL_SECONDS = 0.25
_START_SECONDS = 60.0
_SERVER_ERRORS = 500


class RenderFailed(CommandFailed):
    """The job ended without a video."""


def render(
    prompt: str, *, out: Path | None, config: Config, config_file: Path | None, console: Console
) -> Path:
    """Submit, watch, download; on Ctrl-C the job is canceled. Raises ``RenderFailed``."""
    key = client_key(config).secret
    with _service(config, config_file, key, console) as (url, service), Promptreel(url, key) as api:
        job_id = api.submit(prompt).id
        target = out or Path(f"{job_id}.mp4")
        try:
            # Asked once at a time: between two questions the service must be tended.
            with Promptreel(url, key, tries=1) as impatient:
                job = _watch(impatient, job_id, service, console)
        except (KeyboardInterrupt, ServiceFailed):
            # Nobody waits for it any more: it must not surprise the next start.
            with suppress(ClientError):
                api.cancel(job_id)
            raise
        if job.status != "finished":
            reason = job.error.message if job.error else f"the job was {job.status}"
            raise RenderFailed(f"No video: {reason}")
        api.download(job_id, target)
    console.print(f"[bold green]saved[/] {target}  [dim]({target.stat().st_size / 1e6:.1f} MB)[/]")
    return target


@contextmanager
def _service(
    config: Config, config_file: Path | None, key: str, console: Console
) -> Iterator[tuple[str, Service | None]]:
    """A running server of ours if there is one, else one that lives as long as this command."""
    server = config.server
    url = local_url(server.host, server.port)
    if _answers(url, key):
        yield url, None
        return
    port = server.port if server.port and port_is_free(server.host, server.port) else None
    log_file = config.data_dir / "render.log"
    with (
        log_file.open("wb") as output,
        Service(
            config_file=config_file,
            host=server.host,
            port=port or free_port(server.host),
            log_format="json",
            backends=config.backends,
            output=output,
        ) as service,
    ):
        try:
            with console.status("starting the API and a worker"):
                service.wait_ready(timeout_seconds=_START_SECONDS)
            yield service.url, service
        except ServiceFailed as error:
            raise ServiceFailed(f"{error}; see {log_file}") from None


def _answers(url: str, key: str) -> bool:
    """A server is there and knows our key: a wrong job id is all it complains about."""
    try:
        probe = httpx.get(
            f"{url}/v1/jobs/none", headers={"Authorization": f"Bearer {key}"}, timeout=2.0
        )
    except httpx.HTTPError:
        return False
    return probe.status_code == httpx.codes.NOT_FOUND and "x-request-id" in probe.headers


def _watch(client: Promptreel, job_id: str, service: Service | None, console: Console) -> JobView:
    """Show phase, step and time left until the job has ended."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("queued", total=100)
        while True:
            if service is not None:
                service.tend()
            try:
                job = client.get(job_id)
                text = _told(client, job)
            except ClientError as error:
                if isinstance(error, ApiError) and error.status < _SERVER_ERRORS:
                    raise
                # The server may be restarting: the job is safe, keep asking.
                progress.update(task, description=f"{'waiting for the server':<34}")
                time.sleep(_POLL_SECONDS)
                continue
            progress.update(task, completed=job.progress, description=f"{text:<34.34}")
            if job.status in TERMINAL:
                return job
            time.sleep(_POLL_SECONDS)


def _told(client: Promptreel, job: JobView) -> str:
    """What is happening, in the worker's own words if it has any."""
    if job.status == "queued":
        return "queued" if client.health().model_loaded else "loading the model"
    if job.status in TERMINAL:
        return job.status
    lines = client.logs(job.id, tail=1)
    return lines[0].partition(" ")[2] if lines else job.status
