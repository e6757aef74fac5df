"""`promptreel signing`: its commands' arguments. What they do is in signing.py."""

from typing import Annotated

import typer

from services.cli.exits import told_plainly
from services.cli.job_commands import JsonOption
from services.cli.key_commands import ConfigOption
from services.cli.output import Output, console

commands = typer.Typer(no_args_is_help=True, help="The secret that links are signed with.")


@commands.callback()
def signing() -> None:
    """The secret that links are signed with."""


@commands.command()
def rotate(
    *,
    overlap: Annotated[
        str | None,
        typer.Option(
            help="How long links of before still count: 12h, 30m, 0m; by default, as long as any may."
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Sign with a new secret from now on; no link that is out stops working. Nothing is restarted."""
    from services.cli.signing import rotate_signing

    with told_plainly(console()):
        rotate_signing(overlap, config, Output(json))
