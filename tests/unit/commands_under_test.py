"""Commands as a person would give them, against any server, with a config folder of their own."""

import json
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from typer.testing import CliRunner

from services.cli.app import app


@dataclass
class Commands:
    """``promptreel …``, in this process."""

    config_home: Path
    data_home: Path
    environment: dict[str, str | None] = field(default_factory=dict)

    @property
    def servers_file(self):
        return self.config_home / "promptreel" / "servers.yaml"

    def __call__(self, *arguments, said=None, code=0):
        nobody = {"PROMPTREEL_URL": None, "PROMPTREEL_API_KEY": None, "PROMPTREEL_CONFIG": None}
        homes = {"XDG_CONFIG_HOME": str(self.config_home), "XDG_DATA_HOME": str(self.data_home)}
        environment = {**nobody, **homes, **self.environment}
        done = CliRunner().invoke(app, [str(it) for it in arguments], said, env=environment)
        assert done.exit_code == code, (done.output, done.exception)
        assert "Traceback" not in done.stderr
        return done

    def talk_to(self, url, key):
        self.environment = {"PROMPTREEL_URL": url, "PROMPTREEL_API_KEY": key}


def objects(done):
    """What a program reads: one JSON object a line, nothing else."""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(isinstance(it, dict) for it in found)
    return found


@contextmanager
def commands_in(folder):
    """What the API says in the same process would stand among what the command says."""
    before = signal.getsignal(signal.SIGTERM)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    try:
        yield Commands(folder / "config", folder / "data")
    finally:
        signal.signal(signal.SIGTERM, before)
        structlog.reset_defaults()
