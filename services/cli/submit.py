"""`promptreel submit`: a prompt becomes a job."""

import sys
from pathlib import Path

from services.cli.connection import connected
from services.cli.exits import EXIT_USAGE, CommandFailed
from services.cli.fetch import save
from services.cli.output import Output
from services.cli.watch import see_through


def submit(
    prompt: str,
    wait: bool,
    out: Path | None,
    idempotency_key: str | None,
    *,
    server: str | None,
    output: Output,
) -> None:
    """Raises ``CommandFailed`` if it waited for nothing."""
    text = _from_stdin() if prompt == "-" else prompt
    with connected(server) as client:
        try:
            accepted = client.submit(text, idempotency_key=idempotency_key)
        except ValueError as error:
            raise CommandFailed(f"This cannot be sent: {error}.", EXIT_USAGE) from None
        output.result(accepted.id, accepted.model_dump(mode="json"))
        if not wait and out is None:
            return
        see_through(client, accepted.id, logs=False, output=output)
        if out is not None:
            save(client, accepted.id, out, "video", output)


def _from_stdin() -> str:
    try:
        return sys.stdin.read().rstrip("\n")
    except UnicodeDecodeError:
        raise CommandFailed("The prompt on stdin is not UTF-8 text.", EXIT_USAGE) from None
