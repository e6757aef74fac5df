"""`promptreel servers`: names for several servers, and which one is in use."""

import sys
from pathlib import Path

import typer

from services.cli.exits import EXIT_USAGE, CommandFailed
from services.cli.output import Output
from services.cli.profiles import LOCAL, Profile, check_name, profile_file
from shared.client.calls import ONE_WORD
from shared.client.server import check_address


def list_servers(output: Output) -> None:
    profiles = profile_file().read()
    addresses = {LOCAL: None, **{name: it.url for name, it in profiles.servers.items()}}
    width = max(map(len, addresses))
    for name, url in addresses.items():
        in_use = name == profiles.current
        text = f"{'*' if in_use else ' '} {name:<{width}}  {url or 'of the working directory'}"
        output.result(text, {"name": name, "url": url, "in_use": in_use})


def add_server(name: str, url: str, key_file: Path | None, output: Output) -> None:
    """The key is never an argument: arguments are seen by everybody on the machine."""
    check_name(name)
    try:
        check_address(url)
    except ValueError as error:
        raise CommandFailed(f"This is no address: {error}.", EXIT_USAGE) from None
    file = profile_file()
    profiles = file.read()
    profile = Profile(url=url, key=_key(key_file))
    current = profiles.current if profiles.servers else name
    servers = {**profiles.servers, name: profile}
    file.write(profiles.model_copy(update={"servers": servers, "current": current}))
    _said(name, current, f"added {name}", output)


def remove_server(name: str, output: Output) -> None:
    file = profile_file()
    profiles = file.read()
    profiles.named(name)
    servers = {known: profile for known, profile in profiles.servers.items() if known != name}
    current = LOCAL if profiles.current == name else profiles.current
    file.write(profiles.model_copy(update={"servers": servers, "current": current}))
    _said(name, current, f"removed {name}", output)


def use_server(name: str, output: Output) -> None:
    file = profile_file()
    profiles = file.read()
    if name != LOCAL:
        profiles.named(name)
    file.write(profiles.model_copy(update={"current": name}))
    _said(name, name, "", output)


def names() -> list[str]:
    """For completion, which must not complain."""
    try:
        return [LOCAL, *profile_file().read().servers]
    except CommandFailed:
        return []


def _said(name: str, current: str, done: str, output: Output) -> None:
    text = "; ".join(part for part in (done, f"{current} is in use") if part)
    output.result(text, {"name": name, "current": current})


def _key(key_file: Path | None) -> str:
    if key_file is not None:
        try:
            key = key_file.read_text()
        except (OSError, ValueError):
            raise CommandFailed(f"{key_file} cannot be read.", EXIT_USAGE) from None
    elif sys.stdin.isatty():
        key = typer.prompt("API key", hide_input=True, err=True)
    else:
        key = sys.stdin.readline()
    key = key.strip()
    if not ONE_WORD.fullmatch(key):
        raise CommandFailed("An API key is one word; this is none.", EXIT_USAGE)
    return key
