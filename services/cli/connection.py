"""Which server a command talks to, and with which key.

``--server NAME``, else PROMPTREEL_URL and PROMPTREEL_API_KEY, else what `promptreel servers use` chose,
else the installation of the working directory.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.cli.client_key import client_key
from services.cli.exits import EXIT_REFUSED, EXIT_USAGE, CommandFailed
from services.cli.output import console
from services.cli.profiles import LOCAL, profile_file
from services.cli.service import local_url
from shared.client import Promptreel
from shared.client.errors import WrongKey
from shared.config import find_config, load_config
from shared.errors import ConfigurationError
from shared.settings import ServerSettings, read_server_settings, read_settings

_UNAUTHENTICATED = 401
_WORTH_TELLING_SECONDS = 2.0


@dataclass(frozen=True)
class Chosen:
    where: str  # as a person would name it
    url: str
    key: str = field(repr=False)


def choose(named: str | None) -> Chosen:
    """Raises ``CommandFailed`` or ``ConfigurationError`` where there is no such server."""
    said = _said_by_environment()
    if named is None and said is not None:
        return Chosen("the server of PROMPTREEL_URL", said.url, said.api_key)
    profiles = profile_file().read()
    name = named or profiles.current
    if name == LOCAL:
        return _local()
    profile = profiles.named(name)
    return Chosen(f"the server {name}", profile.url, profile.key)


@contextmanager
def connected(named: str | None) -> Iterator[Promptreel]:
    chosen = choose(named)
    with client_of(chosen, sleep=_told_sleep) as client:
        try:
            yield client
        except WrongKey as error:
            if error.status != _UNAUTHENTICATED:
                raise
            raise CommandFailed(
                f"{chosen.where} does not know this key. Ask whoever runs it for one, and say it "
                "with `promptreel servers add NAME URL` or PROMPTREEL_API_KEY.",
                EXIT_REFUSED,
            ) from None


def client_of(
    chosen: Chosen,
    *,
    timeout_seconds: float = 30.0,
    tries: int = 4,
    sleep: Callable[[float], None] = time.sleep,
) -> Promptreel:
    try:
        return Promptreel(
            chosen.url, chosen.key, timeout_seconds=timeout_seconds, tries=tries, sleep=sleep
        )
    except ValueError as error:
        raise CommandFailed(f"{chosen.where} cannot be used: {error}.", EXIT_USAGE) from None


def _said_by_environment() -> ServerSettings | None:
    try:
        return read_server_settings()
    except ConfigurationError as error:
        reasons = "; ".join(f"{variable} {reason}" for variable, reason in error.problems)
        raise CommandFailed(f"{reasons}.", EXIT_USAGE) from None


def _local() -> Chosen:
    """Made for the command line of this machine by `promptreel up`, or by `render`."""
    config = load_config(find_config(read_settings().config_file))
    if not config.server.key_file.exists() or not config.server.port:
        raise CommandFailed(
            "No server is configured and none has run here. Start one with `promptreel up`, or name "
            "one with `promptreel servers add NAME URL`.",
            EXIT_USAGE,
        )
    url = local_url(config.server.host, config.server.port)
    return Chosen("the server of this folder", url, client_key(config).secret)


def _told_sleep(seconds: float) -> None:
    if seconds >= _WORTH_TELLING_SECONDS:
        console().print(f"[dim]the server is busy or away; asking again in {seconds:.0f} s[/]")
    time.sleep(seconds)
