"""`promptreel keys`: its commands' arguments. What they do is in keys.py."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli.exits import told_plainly
from services.cli.job_commands import JsonOption
from services.cli.output import Output, console

commands = typer.Typer(
    no_args_is_help=True, help="The API keys of this installation, for whoever runs it."
)


class Scope(StrEnum):
    READ = "read"
    WRITE = "write"


KeyId = Annotated[str, typer.Argument(metavar="ID", help="The eight letters after `pr_`.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="promptreel.yaml; by default config/promptreel.yaml if there."),
]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", help="A key file, instead of where the configuration says they are."),
]
LifeOption = Annotated[
    str | None, typer.Option("--expires", help="When it opens nothing any more: 90d, 12h, 30m.")
]


@commands.command()
def create(
    owner: Annotated[str, typer.Argument(metavar="OWNER", help="Whose jobs it makes and sees.")],
    *,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it is good for; by default everything.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="One of `plans`, instead of its owner's.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="What it is for, for you.")] = None,
    expires: LifeOption = None,
    config: ConfigOption = None,
    file: FileOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key and print it: the only time it can be read."""
    from services.cli.keys import Place, Wanted, create_key

    with told_plainly(console()):
        scopes = tuple(each.value for each in scope or Scope)
        wanted = Wanted(owner=owner, scopes=scopes, plan=plan, note=note, expires=expires)
        create_key(wanted, Place(config, file), Output(json))


@commands.command("list")
def list_command(
    *, config: ConfigOption = None, file: FileOption = None, json: JsonOption = False
) -> None:
    """List the keys, and when each was used last."""
    from services.cli.keys import Place, list_keys

    with told_plainly(console()):
        list_keys(Place(config, file), Output(json))


@commands.command()
def revoke(
    key_id: KeyId,
    *,
    config: ConfigOption = None,
    file: FileOption = None,
    json: JsonOption = False,
) -> None:
    """Have a key open nothing any more."""
    from services.cli.keys import Place, revoke_key

    with told_plainly(console()):
        revoke_key(key_id, Place(config, file), Output(json))


@commands.command()
def rotate(
    key_id: KeyId,
    *,
    overlap: Annotated[
        str, typer.Option(help="How long the old one still counts: 24h, 30m, 0m.")
    ] = "24h",
    expires: LifeOption = None,
    config: ConfigOption = None,
    file: FileOption = None,
    json: JsonOption = False,
) -> None:
    """Print a new key for the same owner and purpose; the old one counts a while longer."""
    from services.cli.keys import Place, rotate_key

    with told_plainly(console()):
        rotate_key(key_id, overlap, expires, Place(config, file), Output(json))
