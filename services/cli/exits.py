"""How a command ends: one line that says what to do, and a number for scripts."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import typer

from shared.errors import EXIT_CONFIGURATION, PromptreelError

if TYPE_CHECKING:
    from rich.console import Console

    from shared.client.errors import ClientError

EXIT_FAILED = 1
EXIT_USAGE = EXIT_CONFIGURATION
EXIT_UNREACHABLE = 3
EXIT_REFUSED = 4
EXIT_LIMITED = 5
EXIT_INTERRUPTED = 130

EXIT_CODES = (
    "Exit codes: 0 done, 1 the job or the service failed, 2 wrong usage or configuration, "
    "3 the server cannot be reached, 4 the server refused, 5 a limit is reached, 130 interrupted."
)


class CommandFailed(Exception):
    """Ends the command; the message says what to do."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def told_plainly(console: "Console") -> Iterator[None]:
    """Errors a person can mend are a message and an exit code, not a traceback."""
    try:
        yield
    except (KeyboardInterrupt, typer.Abort):
        console.print("stopped")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        code = _exit_code_of(error)
        if code is None:
            raise
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(code) from None


def sigterm_interrupts() -> None:
    """SIGTERM ends a command the way Ctrl-C does: children first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _exit_code_of(error: Exception) -> int | None:
    # Here, not above: what it needs takes a while to import, and most commands go well.
    from shared.client.errors import ClientError  # noqa: PLC0415

    match error:
        case CommandFailed():
            return error.exit_code
        case PromptreelError():
            return EXIT_USAGE
        case ClientError():
            return _exit_code_of_client(error)
        case _:
            return None


def _exit_code_of_client(error: "ClientError") -> int:
    from shared.client.errors import ApiError, LimitReached, Unavailable  # noqa: PLC0415 - see above

    match error:
        case LimitReached():
            return EXIT_LIMITED
        case Unavailable():
            return EXIT_UNREACHABLE
        case ApiError():
            return EXIT_REFUSED
        case _:
            return EXIT_UNREACHABLE
