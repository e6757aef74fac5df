"""The servers a person has named, in a file that only they can read: it holds keys."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.cli.exits import EXIT_USAGE, CommandFailed

# The installation of the working directory; no server in the file may have this name.
LOCAL = "local"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Profile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    key: str = Field(repr=False)


class Profiles(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    current: str = LOCAL
    servers: dict[str, Profile] = Field(default_factory=dict)

    def named(self, name: str) -> Profile:
        """Raises ``CommandFailed`` naming those that there are."""
        if name not in self.servers:
            known = ", ".join([LOCAL, *self.servers])
            raise CommandFailed(
                f"There is no server called {name}; there are: {known}. "
                "`promptreel servers add NAME URL` adds one.",
                EXIT_USAGE,
            )
        return self.servers[name]


@dataclass(frozen=True)
class ProfileFile:
    path: Path

    def read(self) -> Profiles:
        """Raises ``CommandFailed`` for a file that cannot be used, or that others can read."""
        try:
            if self.path.stat().st_mode & _OTHERS:
                raise CommandFailed(
                    f"{self.path} holds keys and others can read it: chmod 600 it.", EXIT_USAGE
                )
            return Profiles.model_validate(yaml.safe_load(self.path.read_text()) or {})
        except FileNotFoundError:
            return Profiles()
        except (OSError, ValueError, yaml.YAMLError, ValidationError):
            # No more than this: what stands there may be a key.
            raise CommandFailed(
                f"{self.path} cannot be read. Mend it, or remove it and add the servers again.",
                EXIT_USAGE,
            ) from None

    def write(self, profiles: Profiles) -> None:
        """Whole or not at all. Raises ``CommandFailed`` where it cannot be written."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                yaml.safe_dump(profiles.model_dump(), file, sort_keys=False)
            new.replace(self.path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise CommandFailed(f"{self.path} cannot be written: {reason}.", EXIT_USAGE) from None
        finally:
            new.unlink(missing_ok=True)


def profile_file() -> ProfileFile:
    return ProfileFile(platformdirs.user_config_path("promptreel") / "servers.yaml")


def check_name(name: str) -> None:
    if name == LOCAL or not _NAME.fullmatch(name):
        raise CommandFailed(
            f"A server's name is of letters, digits, dots and hyphens, and not {LOCAL}.", EXIT_USAGE
        )
