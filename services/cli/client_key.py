"""The key this machine's own command line uses: made once, kept where only its user can read it."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.api.keys.sources import KeyFile, create_key
from shared.config import Config

_OWNER = "local"


@dataclass(frozen=True)
class ClientKey:
    secret: str
    file: Path


def client_key(config: Config) -> ClientKey:
    """The key in ``data_dir/client.key``; the API keeps only its hash in the key file."""
    file = config.data_dir / "client.key"
    if not file.exists() or not config.server.key_file.exists():
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = create_key(KeyFile(config.server.key_file), owner=_OWNER, now=datetime.now(UTC))
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as created:
            created.write(secret)
    return ClientKey(secret=file.read_text().strip(), file=file)
