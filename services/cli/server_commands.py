"""`promptreel servers`: its commands' arguments. What they do is in servers.py."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.exits import told_plainly
from services.cli.job_commands import JsonOption
from services.cli.output import Output, console

commands = typer.Typer(no_args_is_help=True, help="The servers that commands may talk to.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What you call the server.")]


@commands.command("list")
def list_command(*, json: JsonOption = False) -> None:
    """List the servers; a star marks the one in use."""
    from services.cli.servers import list_servers as run

    with told_plainly(console()):
        run(Output(json))


@commands.command()
def add(
    name: NameArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as https://reel.example.")],
    *,
    key_file: Annotated[
        Path | None,
        typer.Option(help="Holds the API key; else it is asked for, or read from stdin."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add a server, or change it. The first one is put to use."""
    from services.cli.servers import add_server as run

    with told_plainly(console()):
        run(name, url, key_file, Output(json))


@commands.command()
def remove(name: NameArgument, *, json: JsonOption = False) -> None:
    """Forget a server and its key."""
    from services.cli.servers import remove_server as run

    with told_plainly(console()):
        run(name, Output(json))


@commands.command()
def use(name: NameArgument, *, json: JsonOption = False) -> None:
    """Talk to this server from now on; `local` is the one of the working directory."""
    from services.cli.servers import use_server as run

    with told_plainly(console()):
        run(name, Output(json))
