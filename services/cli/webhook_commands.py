"""`promptreel webhook`: its commands' arguments. What they do is in webhook.py."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli.exits import told_plainly
from services.cli.job_commands import JobId, JsonOption, ServerOption
from services.cli.output import Output, console

if TYPE_CHECKING:
    from shared.webhooks.schemas import DeliveryStatus

commands = typer.Typer(no_args_is_help=True, help="Where you are told that jobs have ended.")


class Status(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@commands.command("set")
def set_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as https://reel.example/hooks.")],
    *,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """Be told there from now on; prints the secret that it is signed with, if that is new."""
    from services.cli.webhook import set_endpoint as run

    with told_plainly(console()):
        run(url, server=server, output=Output(json))


@commands.command()
def show(*, server: ServerOption = None, json: JsonOption = False) -> None:
    """Show where you are told."""
    from services.cli.webhook import show_endpoint as run

    with told_plainly(console()):
        run(server=server, output=Output(json))


@commands.command()
def secret(*, server: ServerOption = None, json: JsonOption = False) -> None:
    """Print a new secret; for a day, the old one signs, too."""
    from services.cli.webhook import replace_secret as run

    with told_plainly(console()):
        run(server=server, output=Output(json))


@commands.command()
def remove(*, server: ServerOption = None, json: JsonOption = False) -> None:
    """Be told no more."""
    from services.cli.webhook import remove_endpoint as run

    with told_plainly(console()):
        run(server=server, output=Output(json))


@commands.command()
def deliveries(
    *,
    status: Annotated[Status | None, typer.Option(help="Only those of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the newest first.")] = 20,
    server: ServerOption = None,
    json: JsonOption = False,
) -> None:
    """List what you were told of videos, and what came of it."""
    from services.cli.webhook import list_deliveries as run

    with told_plainly(console()):
        asked = cast("DeliveryStatus | None", status and status.value)
        run(asked, limit, server=server, output=Output(json))


@commands.command()
def retry(job_id: JobId, *, server: ServerOption = None, json: JsonOption = False) -> None:
    """Be told of a job once more."""
    from services.cli.webhook import retry_delivery as run

    with told_plainly(console()):
        run(job_id, server=server, output=Output(json))
