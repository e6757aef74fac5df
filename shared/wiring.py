"""The only place that picks adapters."""

import hmac
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.config import Config
from shared.errors import ConfigurationError, TransientError
from shared.lifecycle import Lifecycle
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.telemetry import Metrics

_SIGNING_KEY_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A configuration with its adapters plugged in."""

    config: Config
    store: JobStore
    queue: MessageQueue
    artifacts: ArtifactStore
    served_files: DiskArtifacts | None  # what the API serves itself; None: the links lead elsewhere
    metrics: Metrics
    lifecycle: Lifecycle

    def close(self) -> None:
        self.store.close()
        self.queue.close()
        self.artifacts.close()


def wire(config: Config) -> Wiring:
    """Raises ``ConfigurationError`` when the data directory cannot be used."""
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        signing_key = _signing_key(config.data_dir / "signing.key")
        artifacts = DiskArtifacts(
            config.data_dir / "artifacts",
            bucket=config.artifacts.bucket,
            signing_key=_derived(signing_key, "links"),
        )
        store = SqliteJobs(
            config.data_dir / "jobs.sqlite3", log_lines_per_job=config.limits.log_lines_per_job
        )
        queue = SqliteQueue(
            config.data_dir / "queue.sqlite3",
            visibility_seconds=config.queue.visibility_seconds,
            backoff_min_seconds=config.queue.backoff_min_seconds,
            backoff_max_seconds=config.queue.backoff_max_seconds,
            max_deliveries=config.queue.max_deliveries,
        )
    except OSError as error:
        reason = f"cannot be used: {error.strerror}"
        raise ConfigurationError(config.data_dir, [("data_dir", reason)]) from error
    except TransientError as error:
        raise ConfigurationError(config.data_dir, [("data_dir", error.message)]) from error
    metrics = Metrics()
    lifecycle = Lifecycle(
        config=config,
        store=store,
        queue=queue,
        artifacts=artifacts,
        metrics=metrics,
        prompt_hash_key=_derived(signing_key, "prompts"),
    )
    return Wiring(
        config=config,
        store=store,
        queue=queue,
        artifacts=artifacts,
        served_files=artifacts,
        metrics=metrics,
        lifecycle=lifecycle,
    )


def _signing_key(file: Path) -> bytes:
    """This installation's secret, made at its first start, readable by its user only."""
    if not file.exists():
        _make_key(file)
    key = file.read_bytes()
    if len(key) != _SIGNING_KEY_BYTES:
        # With a cut-off key anyone could sign links.
        reason = f"must hold {_SIGNING_KEY_BYTES} bytes; restore it, or remove it to make a new one"
        raise ConfigurationError(file, [("", reason)])
    return key


def _make_key(file: Path) -> None:
    descriptor, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as made:
            made.write(secrets.token_bytes(_SIGNING_KEY_BYTES))
            made.flush()
            os.fsync(made.fileno())
        # Two processes may start at once: the first one's key stays, and both read it.
        with suppress(FileExistsError):
            os.link(name, file)
    finally:
        Path(name).unlink()


def _derived(key: bytes, purpose: str) -> bytes:
    # One secret on disk, one key a purpose: what one leaks tells nothing of the other.
    return hmac.digest(key, purpose.encode(), "sha256")
