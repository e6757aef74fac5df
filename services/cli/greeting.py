"""What `promptreel up` says when it is up: where, and how to make a first video."""

import shlex
import shutil
from functools import partial
from pathlib import Path

from rich.console import Console

from services.cli.exits import CommandFailed
from services.cli.profiles import LOCAL, profile_file
from shared.config import find_config
from shared.errors import ConfigurationError
from shared.settings import read_server_settings, read_settings

_PROMPT = "a red circle moving left"


def greet(console: Console, *, url: str, key_file: Path, submit: str | None) -> None:
    """Printed unwrapped, to be copied as it is."""
    say = partial(console.print, soft_wrap=True)
    say(f"[bold green]Promptreel is up[/] at {url}  ·  docs at {url}/docs  ·  Ctrl-C stops")
    say("[bold]Make a video:[/]")
    if submit is not None:
        say(f"  {submit}", markup=False)
    say(
        f'  curl -s {url}/v1/jobs -H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
        f"""-H 'Content-Type: application/json' -d '{{"prompt": "{_PROMPT}"}}'""",
        markup=False,
    )


def submit_command(config_file: Path | None, *, port: int, program: str) -> str | None:
    """What submits to the server of this configuration, typed here; None where nothing could find it.

    ``program`` is what this one was called as.
    """
    if not port:
        return None  # the one it has is known to nobody but this process
    name = "promptreel" if shutil.which("promptreel") else shlex.quote(program)
    command = f'{name} submit "{_PROMPT}" --out circle.mp4'
    if not _is_the_usual_server():
        command += f" --server {LOCAL}"
    found = find_config(read_settings().config_file)
    if config_file is not None and (found is None or found.resolve() != config_file.resolve()):
        command = f"PROMPTREEL_CONFIG={shlex.quote(str(config_file.resolve()))} {command}"
    return command


def _is_the_usual_server() -> bool:
    """Whether a command that names no server would talk to this one."""
    try:
        return read_server_settings() is None and profile_file().read().current == LOCAL
    except (CommandFailed, ConfigurationError):
        return False
