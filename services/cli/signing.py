"""`promptreel signing`: the secret that this installation signs its links with."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.cli.exits import EXIT_USAGE, CommandFailed
from services.cli.output import Output
from services.cli.spans import span
from shared.adapters.local.signing_keys import rotate
from shared.config import Config, find_config, load_config
from shared.errors import ConfigurationError
from shared.settings import read_settings
from shared.wiring import signing_file


def rotate_signing(overlap: str | None, config_file: Path | None, output: Output) -> None:
    config = load_config(find_config(config_file or read_settings().config_file))
    if config.profile == "gcp":
        raise CommandFailed(
            "Google signs the links of this installation, with keys that it rotates itself.",
            EXIT_USAGE,
        )
    now = datetime.now(UTC)
    kept = _longest_link(config) if overlap is None else span(overlap)
    file = signing_file(config)
    try:
        rotate(file, now=now, overlap=kept)
    except OSError as error:
        reason = f"cannot be rotated: {error.strerror}"
        raise ConfigurationError(file, [("", reason)]) from error
    until = now + kept
    output.result(
        "New links are signed with a new secret. "
        f"Those of before count until {until.astimezone():%Y-%m-%d %H:%M}.",
        {"rotated_at": now.isoformat(), "old_links_until": until.isoformat()},
    )


def _longest_link(config: Config) -> timedelta:
    return timedelta(
        seconds=max(config.artifacts.link_max_seconds, config.images.input_link_seconds)
    )
