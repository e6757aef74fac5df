"""The commands of `promptreel`."""

import importlib.metadata
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from services.cli import rendering
from services.cli.client import RequestRefused
from services.cli.client_key import client_key
from services.cli.model_files import (
    DEMO_MODEL,
    bake,
    ensure_model,
    has_model,
    make_demo_model,
    verify_snapshot,
)
from services.cli.service import Service, ServiceFailed, free_port, port_is_free
from shared.config import Config, find_config, load_config
from shared.errors import PromptreelError
from shared.settings import read_settings

if TYPE_CHECKING:
    from services.emulators.cloud import Cloud

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_START_SECONDS = 60.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A text prompt becomes a video, on this machine or on your own Google Cloud project.",
)
console = Console(stderr=True, highlight=False)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="promptreel.yaml; by default config/promptreel.yaml if there."),
]


class Profile(StrEnum):
    CONFIGURED = "configured"  # what the configuration says
    GCP_EMULATORS = "gcp-emulators"  # Google's emulators on this machine, for as long as it runs


@app.command()
def up(
    config: ConfigOption = None,
    profile: Annotated[
        Profile, typer.Option(help="gcp-emulators: as in the cloud, on Google's own emulators.")
    ] = Profile.CONFIGURED,
) -> None:
    """Run the API and a worker here until Ctrl-C."""
    with _told_plainly(), ExitStack() as running:
        file, loaded = _load(config)
        server = loaded.server
        port = server.port or free_port(server.host)
        if not port_is_free(server.host, port):
            raise ServiceFailed(
                f"port {port} on {server.host} is taken; "
                "set another server.port in the configuration"
            )
        ensure_model(loaded)
        key = client_key(loaded)
        _sigterm_interrupts()
        environment: Mapping[str, str] = {}
        if profile is Profile.GCP_EMULATORS:
            with console.status("starting Google's emulators"):
                cloud = running.enter_context(_emulated_cloud(loaded))
            file, environment = cloud.config_file, cloud.environment
            for name, address in environment.items():
                console.print(f"[dim]{name}={address}[/]")
        service = running.enter_context(
            Service(
                config_file=file,
                host=server.host,
                port=port,
                log_format="console" if sys.stderr.isatty() else "json",
                environment=environment,
                on_restart=lambda name: console.print(f"[yellow]the {name} died; restarting it[/]"),
            )
        )
        service.wait_ready(timeout_seconds=_START_SECONDS)
        _welcome(service.url, key.file)
        service.run()


def _emulated_cloud(config: Config) -> AbstractContextManager["Cloud"]:
    # Here, not above: Google's clients take a second to import, and few commands need them.
    from services.emulators.cloud import emulated_cloud  # noqa: PLC0415

    return emulated_cloud(config, config.data_dir / "gcp-emulators")


@app.command()
def render(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to save the MP4.")] = None,
    config: ConfigOption = None,
) -> None:
    """Render a prompt to an MP4, starting what is not running."""
    with _told_plainly():
        file, loaded = _load(config)
        ensure_model(loaded)
        _sigterm_interrupts()
        rendering.render(prompt, out=out, config=loaded, config_file=file, console=console)


@app.command("make-demo-model")
def make_demo_model_command(
    directory: Annotated[
        Path | None, typer.Argument(help="Where; by default models.wan2.1-demo.dir.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Build a small Wan pipeline with random weights that any CPU can run."""
    with _told_plainly():
        if directory is None:
            directory = _load(config)[1].models[DEMO_MODEL].dir
        make_demo_model(directory, seed=seed)


@app.command("bake")
def bake_command(
    model_dir: Annotated[Path, typer.Argument(help="A model in diffusers' layout.")],
    snapshot_dir: Annotated[Path, typer.Argument(help="Where; a snapshot there is replaced.")],
    *,
    model: Annotated[
        str | None, typer.Option(help="Its name in the catalog, if it cannot be told.")
    ] = None,
    device: Annotated[str, typer.Option(help="What it is made for: auto, cpu or cuda.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="In what numbers: auto, float32, bfloat16 or float16.")
    ] = "auto",
    text_float8: Annotated[
        bool,
        typer.Option("--text-float8", help="The text encoder in half the bytes, a little off."),
    ] = False,
    compiles: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Compile what gets faster by it.")
    ] = True,
) -> None:
    """Prepare a model for a quick start, on a machine like the one it will start on.

    Name the snapshot in the configuration, as models.NAME.snapshot.
    """
    with _told_plainly():
        bake(
            model_dir,
            snapshot_dir,
            model=model,
            device=device,
            dtype=dtype,
            text_float8=text_float8,
            compiles=compiles,
        )


@app.command("verify-snapshot")
def verify_snapshot_command(
    snapshot_dir: Annotated[Path, typer.Argument(help="What `promptreel bake` made.")],
) -> None:
    """Read every file of a snapshot and compare it with its digest. Exits 2 if one is damaged."""
    with _told_plainly():
        verify_snapshot(snapshot_dir)
    console.print("[green]The snapshot is whole.[/]")


@app.command()
def torture(
    seed: Annotated[
        int | None, typer.Option(help="Draws the same faults again; by default a new one.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to go on hurting.")] = 5.0,
    profile: Annotated[
        Profile, typer.Option(help="gcp-emulators: as in the cloud, on Google's own emulators.")
    ] = Profile.CONFIGURED,
    real: Annotated[
        bool, typer.Option("--real", help="Render with the demo model, not with a stand-in.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(help="An empty folder for logs, jobs and history, to be kept.")
    ] = None,
) -> None:
    """Hurt an installation of its own on purpose, and prove that no job is lost or doubled.

    Exits 0 if every invariant held, 1 if one did not.
    """
    from services.cli.torture import run_torture  # noqa: PLC0415 - few commands need what it needs

    with _told_plainly():
        _sigterm_interrupts()
        held = run_torture(
            console,
            seed=seed,
            minutes=minutes,
            in_cloud=profile is Profile.GCP_EMULATORS,
            real_model_dir=_demo_model_dir() if real else None,
            keep=keep,
        )
    if not held:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"promptreel {importlib.metadata.version('promptreel')}")


def _load(named: Path | None) -> tuple[Path | None, Config]:
    file = find_config(named or read_settings().config_file)
    return file, load_config(file)


def _demo_model_dir() -> Path:
    directory = _load(None)[1].models[DEMO_MODEL].dir
    if not has_model(directory):
        make_demo_model(directory)
    return directory


def _welcome(url: str, key_file: Path) -> None:
    """Printed unwrapped, to be copied as it is."""
    say = partial(console.print, soft_wrap=True)
    say(f"[bold green]Promptreel is up[/] at {url}  ·  docs at {url}/docs  ·  Ctrl-C stops")
    say("[bold]Make a video:[/]")
    say(
        f'  curl -s {url}/v1/jobs -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
        f"""-H 'Content-Type: application/json' -d '{{"prompt": "a red circle moving left"}}'""",
        markup=False,
    )


def _sigterm_interrupts() -> None:
    """SIGTERM ends a command the way Ctrl-C does: children first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Errors a person can mend are one message and an exit code, not a traceback."""
    try:
        yield
    except (PromptreelError, RequestRefused, ServiceFailed, rendering.RenderFailed) as error:
        console.print(str(error), style="red", markup=False)
        code = EXIT_USAGE if isinstance(error, PromptreelError) else EXIT_FAILED
        raise typer.Exit(code) from None
    except KeyboardInterrupt:
        console.print("stopped")
        raise typer.Exit(EXIT_INTERRUPTED) from None
