"""The commands of `promptreel`."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import (
    job_commands,
    key_commands,
    server_commands,
    signing_commands,
    webhook_commands,
    weights_commands,
)
from services.cli.exits import EXIT_CODES, EXIT_FAILED, sigterm_interrupts, told_plainly
from services.cli.output import console

if TYPE_CHECKING:
    from services.emulators.cloud import Cloud
    from shared.config import Config

_START_SECONDS = 60.0

app = typer.Typer(
    no_args_is_help=True,
    help="A text prompt becomes a video, on this machine or on your own Google Cloud project.",
    epilog=EXIT_CODES,
)
app.add_typer(job_commands.commands)
app.add_typer(server_commands.commands, name="servers")
app.add_typer(webhook_commands.commands, name="webhook")
app.add_typer(key_commands.commands, name="keys")
app.add_typer(signing_commands.commands, name="signing")
app.add_typer(weights_commands.commands, name="weights")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="promptreel.yaml; by default config/promptreel.yaml if there."),
]


class Mode(StrEnum):
    SINGLE = "single"
    KEYFRAME = "keyframe"
    CHAINING = "chaining"


class Backend(StrEnum):
    WAN = "wan2.1"
    VEO = "veo3"


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
    from services.cli.client_key import client_key
    from services.cli.greeting import greet, submit_command
    from services.cli.model_files import ensure_model
    from services.cli.service import Service, ServiceFailed, free_port, port_is_free

    with told_plainly(console()), ExitStack() as running:
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
        submit = submit_command(file, port=server.port, program=sys.argv[0])
        sigterm_interrupts()
        environment: Mapping[str, str] = {}
        if profile is Profile.GCP_EMULATORS:
            with console().status("starting Google's emulators"):
                cloud = running.enter_context(_emulated_cloud(loaded))
            file, environment = cloud.config_file, cloud.environment
            for name, address in environment.items():
                console().print(f"[dim]{name}={address}[/]")
        service = running.enter_context(
            Service(
                config_file=file,
                host=server.host,
                port=port,
                log_format="console" if sys.stderr.isatty() else "json",
                backends=loaded.backends,
                environment=environment,
                on_restart=lambda name: console().print(
                    f"[yellow]the {name} died; restarting it[/]"
                ),
            )
        )
        service.wait_ready(timeout_seconds=_START_SECONDS)
        greet(console(), url=service.url, key_file=key.file, submit=submit)
        service.run()


def _emulated_cloud(config: "Config") -> AbstractContextManager["Cloud"]:
    from services.emulators.cloud import emulated_cloud

    return emulated_cloud(config, config.data_dir / "gcp-emulators")


@app.command()
def render(
    prompt: Annotated[str, typer.Argument(help="What the video shows.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to save the MP4.")] = None,
    config: ConfigOption = None,
) -> None:
    """Render a prompt to an MP4, starting what is not running."""
    from services.cli import rendering
    from services.cli.model_files import ensure_model

    with told_plainly(console()):
        file, loaded = _load(config)
        ensure_model(loaded)
        sigterm_interrupts()
        rendering.render(prompt, out=out, config=loaded, config_file=file, console=console())


@app.command("pipeline")
def pipeline_command(
    *,
    prompt: Annotated[
        str | None, typer.Option(help="What the video shows; by default the configuration's.")
    ] = None,
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder; by default one of its own in output_dir. A run that was stopped goes on there.",
        ),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Instead of generation_mode in the configuration.")
    ] = None,
    segments: Annotated[
        int | None, typer.Option(help="Instead of segments in the configuration.")
    ] = None,
    backend: Annotated[
        Backend | None, typer.Option(help="Instead of default_backend in the configuration.")
    ] = None,
) -> None:
    """Make one video without a server: plan, keyframes, segments and the video stay in a folder."""
    from services.cli.model_files import ensure_model
    from services.cli.pipeline import folder_of, run_pipeline
    from shared.config import build_effective_config

    with told_plainly(console()):
        said = {
            "prompt": prompt,
            "generation_mode": mode,
            "segments": segments,
            "default_backend": backend,
        }
        effective = build_effective_config(_load(config)[1], said)
        ensure_model(effective.config)
        rendered = run_pipeline(effective, out or folder_of(effective), console=console())
    for file in rendered.files:
        console().print(f"[bold green]saved[/] {file.path}  [dim]{file.kind}[/]", soft_wrap=True)


@app.command("make-demo-model")
def make_demo_model_command(
    directory: Annotated[
        Path | None, typer.Argument(help="Where; by default models.wan2.1-demo.dir.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Build a small Wan pipeline with random weights that any CPU can run."""
    from services.cli.model_files import DEMO_MODEL, make_demo_model

    with told_plainly(console()):
        if directory is None:
            directory = _load(config)[1].dir_of(DEMO_MODEL)
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
    from services.cli.model_files import bake

    with told_plainly(console()):
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
    from services.cli.model_files import verify_snapshot

    with told_plainly(console()):
        verify_snapshot(snapshot_dir)
    console().print("[green]The snapshot is whole.[/]")


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
    from services.cli.torture import run_torture

    with told_plainly(console()):
        sigterm_interrupts()
        held = run_torture(
            console(),
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
    import importlib.metadata

    typer.echo(f"promptreel {importlib.metadata.version('promptreel')}")


def _load(named: Path | None) -> tuple[Path | None, "Config"]:
    from shared.config import find_config, load_config
    from shared.settings import read_settings

    file = find_config(named or read_settings().config_file)
    return file, load_config(file)


def _demo_model_dir() -> Path:
    from services.cli.model_files import DEMO_MODEL, has_model, make_demo_model

    directory = _load(None)[1].dir_of(DEMO_MODEL)
    if not has_model(directory):
        make_demo_model(directory)
    return directory
