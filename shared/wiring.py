"""The only place that picks adapters."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shared.adapters.images.providers import Providers
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningFile
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.adapters.traced_queue import TracedQueue
from shared.config import Config
from shared.errors import ConfigurationError, TransientError
from shared.images.generations import Generations
from shared.images.moderation import moderation_of
from shared.images.outputs import Outputs
from shared.job_events import JobEvents
from shared.lifecycle import Lifecycle
from shared.ports import ArtifactStore, CallerGuard, JobStore, MessageQueue
from shared.telemetry import Metrics, Traces, traces_of

if TYPE_CHECKING:
    from shared.webhooks.courier import Courier

_SIGNING_KEY = "signing.key"


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A configuration with its adapters plugged in."""

    config: Config
    store: JobStore
    queue: MessageQueue
    artifacts: ArtifactStore
    served_files: DiskArtifacts | None  # what the API serves itself; None: the links lead elsewhere
    scheduler: CallerGuard | None  # who may ask the API to sweep; None: nobody may
    metrics: Metrics
    traces: Traces
    lifecycle: Lifecycle
    generations: Generations
    providers: Providers

    def courier(self) -> "Courier":
        """Who sends webhooks, with the network that they may use."""
        # Here, not above: workers do without what signs and sends.
        from shared.adapters.webhook_sender import WebhookSender  # noqa: PLC0415
        from shared.webhooks.courier import Courier  # noqa: PLC0415

        section = self.config.webhooks
        return Courier(
            config=section,
            store=self.store,
            sender=WebhookSender(section),
            now=self.lifecycle.now,
        )

    def close(self) -> None:
        self.providers.close()
        self.store.close()
        self.queue.close()
        self.artifacts.close()
        self.traces.close()


def wire(config: Config, *, service: str = "service") -> Wiring:
    """For the service of this name, which its traces tell.

    Raises ``ConfigurationError`` when what the configuration names cannot be used.
    """
    try:
        # What owners have asked for is in it, in files that everybody could read.
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing = SigningFile(signing_file(config))
        choose = _gcp_adapters if config.profile == "gcp" else _local_adapters
        adapters = choose(config, signing)
    except OSError as error:
        reason = f"cannot be used: {error.strerror}"
        raise ConfigurationError(config.data_dir, [("data_dir", reason)]) from error
    except TransientError as error:
        raise ConfigurationError(config.data_dir, [("data_dir", error.message)]) from error
    metrics = Metrics()
    traces = traces_of(config.telemetry, service=service, project=config.gcp.project)
    queue = adapters.queue
    if config.telemetry.traces != "off":
        queue = TracedQueue(queue, traces)
    prompt_hash_key = signing().derived("prompts").newest
    providers = Providers(config)
    generations = Generations(
        config=config,
        store=adapters.store,
        artifacts=adapters.artifacts,
        providers=providers,
        outputs=Outputs(
            artifacts=adapters.artifacts,
            downloads=providers,
            config=config.images,
        ),
        moderation=moderation_of(config.images),
        events=JobEvents(metrics=metrics, prompt_hash_key=prompt_hash_key, queue=queue),
    )
    lifecycle = Lifecycle(
        config=config,
        store=adapters.store,
        queue=queue,
        artifacts=adapters.artifacts,
        metrics=metrics,
        prompt_hash_key=prompt_hash_key,
        remote=generations.following,
    )
    return Wiring(
        config=config,
        store=adapters.store,
        queue=queue,
        artifacts=adapters.artifacts,
        served_files=adapters.served_files,
        scheduler=adapters.scheduler,
        metrics=metrics,
        traces=traces,
        lifecycle=lifecycle,
        generations=generations,
        providers=providers,
    )


def signing_file(config: Config) -> Path:
    """Where this installation's secret is, from which its other keys are made."""
    return config.data_dir / _SIGNING_KEY


@dataclass(frozen=True, kw_only=True)
class _Adapters:
    store: JobStore
    queue: MessageQueue
    artifacts: ArtifactStore
    served_files: DiskArtifacts | None = None
    scheduler: CallerGuard | None = None


def _local_adapters(config: Config, signing: SigningFile) -> _Adapters:
    artifacts = DiskArtifacts(
        config.data_dir / "artifacts",
        bucket=config.artifacts.bucket,
        signing=lambda: signing().derived("links"),
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
    return _Adapters(store=store, queue=queue, artifacts=artifacts, served_files=artifacts)


def _gcp_adapters(config: Config, _signing: SigningFile) -> _Adapters:
    # Here, not above: Google's clients take a second to import, and one machine does without them.
    from shared.adapters.gcp.credentials import told_as_configuration  # noqa: PLC0415
    from shared.adapters.gcp.firestore_jobs import FirestoreJobs  # noqa: PLC0415
    from shared.adapters.gcp.gcs_artifacts import GcsArtifacts  # noqa: PLC0415
    from shared.adapters.gcp.oidc import caller_check  # noqa: PLC0415
    from shared.adapters.gcp.pubsub_queue import PubsubQueue  # noqa: PLC0415

    gcp = config.gcp
    if gcp.project is None:
        raise AssertionError("a gcp configuration has a project")
    with told_as_configuration():
        store = FirestoreJobs(
            project=gcp.project,
            database=gcp.database,
            log_lines_per_job=config.limits.log_lines_per_job,
        )
        queue = PubsubQueue(
            gcp.project,
            prefix=gcp.topic_prefix,
            visibility_seconds=config.queue.visibility_seconds,
        )
        artifacts = GcsArtifacts(
            bucket=config.artifacts.bucket,
            project=gcp.project,
            credentials_file=gcp.credentials_file,
            signing=gcp.signing,
        )
    return _Adapters(
        store=store,
        queue=queue,
        artifacts=artifacts,
        scheduler=caller_check(gcp.scheduler),
    )
