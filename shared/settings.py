"""The few things that come from the environment, read once at start-up.

What to render, where to keep it and who may ask is configuration (``shared/config.py``); the
environment only says where that file is and how this process is being run.
"""

import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared.errors import ConfigurationError

LogFormat = Literal["json", "console"]

_PORTS_MAX = 65_535


@dataclass(frozen=True, kw_only=True)
class Settings:
    config_file: Path | None  # PROMPTREEL_CONFIG; None: look for it, else the built-in defaults
    log_format: LogFormat  # PROMPTREEL_LOG_FORMAT
    instance: str  # names this process among workers
    port: (
        int | None
    )  # PORT, by which Cloud Run says where it sends requests; None: the configuration's


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Which server a client talks to."""

    url: str  # PROMPTREEL_URL
    api_key: str = field(repr=False)  # PROMPTREEL_API_KEY


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises ``ConfigurationError`` naming the variable that cannot be used."""
    config_file = environment.get("PROMPTREEL_CONFIG")
    log_format = environment.get("PROMPTREEL_LOG_FORMAT", "json")
    if log_format not in ("json", "console"):
        reason = f"must be json or console, not {log_format!r}"
        raise ConfigurationError(None, [("PROMPTREEL_LOG_FORMAT", reason)])
    port = environment.get("PORT")
    if port and not (port.isascii() and port.isdigit() and 1 <= int(port) <= _PORTS_MAX):
        raise ConfigurationError(None, [("PORT", f"must be 1 to {_PORTS_MAX}, not {port!r}")])
    # Cloud Run names the revision, and every container of it has the same process id: only the
    # random part tells them apart.
    host = environment.get("K_REVISION") or socket.gethostname()
    return Settings(
        config_file=Path(config_file) if config_file else None,
        log_format="console" if log_format == "console" else "json",
        instance=f"{host}-{os.getpid()}-{secrets.token_hex(3)}",
        port=int(port) if port else None,
    )


def read_server_settings(environment: Mapping[str, str] = os.environ) -> ServerSettings | None:
    """Both or nothing. Raises ``ConfigurationError`` naming the variable that is missing."""
    url = environment.get("PROMPTREEL_URL")
    api_key = environment.get("PROMPTREEL_API_KEY")
    if not url and not api_key:
        return None
    if not url or not api_key:
        missing, other = "PROMPTREEL_URL", "PROMPTREEL_API_KEY"
        if url:
            missing, other = other, missing
        raise ConfigurationError(None, [(missing, f"is not set, but {other} is; set both")])
    return ServerSettings(url=url, api_key=api_key.strip())
