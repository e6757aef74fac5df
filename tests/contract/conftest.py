"""What the port contracts run against: one entry in ``params`` a set of adapters.

An ``open_…`` fixture opens one more client on the same data, and travels to other processes by
pickle; a plain one is the first client, closed at the end.
"""

import base64
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.job import Artifact, Job, RenderRequest, RenderSummary, Retention, claim, complete
from shared.ports import ArtifactStore, JobStore, MessageQueue

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOG_LINES_PER_JOB = 50


# --- jobs


@pytest.fixture
def noon() -> datetime:
    return NOON


@pytest.fixture
def new_job() -> Callable[..., Job]:
    """Makes a job like any other but for what is named; each one a second younger."""
    numbers = count()

    def make(**fields) -> Job:
        number = next(numbers)
        plain = Job(
            id=f"job_{number:04}",
            owner="ada",
            request=RenderRequest(
                prompt="a red circle moving left on navy",
                model="wan2.1-demo",
                duration_seconds=5,
                resolution="480p",
                preset="reference",
                seed=7,
            ),
            request_hash="hash",
            request_id="request",
            created_at=NOON + timedelta(seconds=number),
            max_attempts=3,
            retention=Retention(artifact_seconds=100, job_seconds=1000),
        )
        return replace(plain, **fields)

    return make


@pytest.fixture
def finish() -> Callable[[Job], Job]:
    """A transition: the whole life of a job at once."""

    def transition(job: Job) -> Job:
        started = claim(job, token="t", worker="w", now=NOON, lease_seconds=30)
        video = Artifact(
            kind="video",
            key="videos/v.mp4",
            uri="local://bucket/videos/v.mp4",
            content_type="video/mp4",
            size_bytes=1,
            sha256="0" * 64,
            width=832,
            height=480,
        )
        summary = RenderSummary(
            device="cpu",
            frames=81,
            fps=16,
            native_size="416x240",
            output_size="832x480",
            generation_seconds=1.5,
            phase_seconds={"generation": 1.25},
        )
        return complete(started, token="t", artifacts=(video,), summary=summary, now=NOON)

    return transition


@pytest.fixture(params=["local"])
def open_job_store(request, tmp_path) -> Callable[[], JobStore]:
    openers = {
        "local": partial(
            SqliteJobs, tmp_path / "jobs.sqlite3", log_lines_per_job=LOG_LINES_PER_JOB
        ),
    }
    return openers[request.param]


@pytest.fixture
def job_store(open_job_store) -> Iterator[JobStore]:
    with closing(open_job_store()) as store:
        yield store


@pytest.fixture
def log_lines_per_job() -> int:
    return LOG_LINES_PER_JOB


# --- messages


@dataclass(frozen=True, kw_only=True)
class QueueUnderTest:
    """How to open a queue, how it is set, and how to put bytes in it that are no message."""

    open: Callable[[], MessageQueue]
    visibility_seconds: float
    backoff_min_seconds: float
    backoff_max_seconds: float
    max_deliveries: int
    publish_bytes: Callable[[MessageQueue, str, bytes], None]


def _publish_bytes_locally(queue: MessageQueue, topic: str, data: bytes) -> None:
    assert isinstance(queue, SqliteQueue)
    with queue._database.write() as connection:
        connection.execute(
            "INSERT INTO messages (topic, data, visible_at) VALUES (?, ?, 0)", (topic, data)
        )


@pytest.fixture(params=["local"])
def queue_under_test(request, tmp_path) -> QueueUnderTest:
    assert request.param == "local"
    settings = {
        "visibility_seconds": 1.0,
        "backoff_min_seconds": 0.2,
        "backoff_max_seconds": 0.8,
        "max_deliveries": 4,
    }
    return QueueUnderTest(
        open=partial(SqliteQueue, tmp_path / "queue.sqlite3", **settings),
        publish_bytes=_publish_bytes_locally,
        **settings,
    )


@pytest.fixture
def open_message_queue(queue_under_test) -> Callable[[], MessageQueue]:
    return queue_under_test.open


@pytest.fixture
def message_queue(open_message_queue) -> Iterator[MessageQueue]:
    with closing(open_message_queue()) as queue:
        yield queue


# --- artifacts


@pytest.fixture(params=["local"])
def open_artifact_store(request, tmp_path) -> Callable[[], ArtifactStore]:
    openers = {
        "local": partial(
            DiskArtifacts, tmp_path / "artifacts", bucket="bucket", signing_key=b"k" * 32
        ),
    }
    return openers[request.param]


@pytest.fixture
def artifact_store(open_artifact_store) -> Iterator[ArtifactStore]:
    with closing(open_artifact_store()) as store:
        yield store


@pytest.fixture
def follow(artifact_store) -> Callable[[str, datetime], bytes]:
    """What whoever follows a link at a moment gets; raises ``LinkTampered``, ``ArtifactExpired``."""

    def fetch(url: str, now: datetime) -> bytes:
        assert isinstance(artifact_store, DiskArtifacts)
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=True)
        path = artifact_store.open_link(
            unquote(parts.path).removeprefix("/outputs/"),
            expires=query["expires"][0],
            signature=query["signature"][0],
            now=now,
        )
        return path.read_bytes()

    return fetch


@pytest.fixture
def stored_bytes(artifact_store, follow) -> Callable[[str], bytes]:
    """What is stored under a key; raises ``ArtifactExpired`` when nothing is."""
    return lambda key: follow(artifact_store.link(key, expires_in_seconds=60, now=NOON).url, NOON)


# --- other processes


@pytest.fixture
def start_process() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts a Python process that runs ``code`` with ``opened``, what the opener opens there."""
    started: list[subprocess.Popen] = []

    def start(code: str, opener: Callable[[], object], *arguments: str) -> subprocess.Popen:
        preamble = (
            "import base64, pickle, sys\n"
            "opened = pickle.loads(base64.b64decode(sys.argv.pop(1)))()\n"
            "print('ready', flush=True)\n"
        )
        command: Sequence[str] = [
            sys.executable,
            "-c",
            preamble + code,
            base64.b64encode(pickle.dumps(opener)).decode(),
            *arguments,
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
