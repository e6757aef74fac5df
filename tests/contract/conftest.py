"""What the port contracts run against: one entry in ``params`` a set of adapters.

An ``open_…`` fixture opens one more client on the same data, and travels to other processes by
pickle; a plain one is the first client, closed at the end.
"""

import base64
import os
import pickle
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest
from hypothesis import settings

from services.emulators.gcs import GcsServer, gcs_server
from shared.adapters.gcp.firestore_jobs import FirestoreJobs
from shared.adapters.gcp.gcs_artifacts import GcsArtifacts
from shared.adapters.gcp.pubsub_queue import PubsubQueue
from shared.adapters.gcp.pubsub_topology import Redelivery, create_topology, names_of
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.errors import ArtifactExpired, LinkTampered
from shared.job import Job
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.transitions import claim, complete
from tests.jobs import NOON, SUMMARY, VIDEO, plain_job

NOBODY_LISTENS = "http://127.0.0.1:9"

# The file, and what returns once half of it is on its way.
SlowFile = tuple[Path, Callable[[], None]]

ROOT = Path(__file__).parents[2]
LOG_LINES_PER_JOB = 50

# `--hypothesis-profile thorough`: minutes rather than seconds, and other examples at every run.
settings.register_profile("thorough", max_examples=2000)


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
        moment = NOON + timedelta(seconds=number)
        return plain_job(**{"id": f"job_{number:04}", "created_at": moment, **fields})

    return make


@pytest.fixture
def finish() -> Callable[[Job], Job]:
    """A transition: the whole life of a job at once."""

    def transition(job: Job) -> Job:
        started = claim(job, token="t", worker="w", now=NOON, lease_seconds=30)
        return complete(started, token="t", artifacts=(VIDEO,), summary=SUMMARY, now=NOON)

    return transition


@pytest.fixture(params=["local", "gcp"])
def open_job_store(request, tmp_path) -> Callable[[], JobStore]:
    if request.param == "gcp":
        return request.getfixturevalue("open_firestore_jobs")
    return partial(SqliteJobs, tmp_path / "jobs.sqlite3", log_lines_per_job=LOG_LINES_PER_JOB)


@pytest.fixture
def open_firestore_jobs(
    firestore_emulator_host, emulated_project, monkeypatch
) -> Callable[[], FirestoreJobs]:
    # Google's client, here and in the processes started by a test, is led to the emulator by it.
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator_host)
    return partial(FirestoreJobs, project=emulated_project, log_lines_per_job=LOG_LINES_PER_JOB)


@pytest.fixture(params=["local", "gcp"])
def fresh_job_store(request, tmp_path) -> Callable[[], AbstractContextManager[JobStore]]:
    """Opens another job store at every call, empty and in a place of its own."""
    if request.param == "gcp":
        return partial(_fresh_firestore_jobs, request.getfixturevalue("open_firestore_jobs"))
    return partial(_fresh_sqlite_jobs, tmp_path)


@contextmanager
def _fresh_sqlite_jobs(folder: Path) -> Iterator[JobStore]:
    with (
        TemporaryDirectory(dir=folder) as place,
        closing(SqliteJobs(Path(place) / "jobs.sqlite3")) as store,
    ):
        yield store


@contextmanager
def _fresh_firestore_jobs(opener: Callable[..., FirestoreJobs]) -> Iterator[JobStore]:
    with closing(opener(project=f"demo-{secrets.token_hex(6)}")) as store:
        yield store


@pytest.fixture
def firestore_jobs(open_firestore_jobs) -> Iterator[FirestoreJobs]:
    with closing(open_firestore_jobs()) as store:
        yield store


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
    first_backoff_seconds: float
    max_deliveries: int
    publish_bytes: Callable[[MessageQueue, str, bytes], None]
    # A queue in the same process answers at once; one at the end of a wire takes a moment.
    at_once_seconds: float  # what is there has come
    late_seconds: float  # by how much a redelivery may be late
    counts_messages: bool = True


def _publish_bytes_locally(queue: MessageQueue, topic: str, data: bytes) -> None:
    assert isinstance(queue, SqliteQueue)
    with queue._database.write() as connection:
        connection.execute(
            "INSERT INTO messages (topic, data, visible_at) VALUES (?, ?, 0)", (topic, data)
        )


def _sqlite_queue(tmp_path: Path) -> QueueUnderTest:
    settings = {
        "visibility_seconds": 1.0,
        "backoff_min_seconds": 0.2,
        "backoff_max_seconds": 0.8,
        "max_deliveries": 4,
    }
    return QueueUnderTest(
        open=partial(SqliteQueue, tmp_path / "queue.sqlite3", **settings),
        first_backoff_seconds=0.2,
        publish_bytes=_publish_bytes_locally,
        at_once_seconds=0,
        late_seconds=1,
        **settings,
    )


def _publish_bytes_to_pubsub(queue: MessageQueue, topic: str, data: bytes) -> None:
    queue._publish(names_of(topic).topic, data, {})


def _pubsub_queue(project: str) -> QueueUnderTest:
    # The least Pub/Sub takes. Its emulator delivers a released message again at once, and only
    # then waits: about two seconds, where the backoff is shorter.
    redelivery = Redelivery(
        ack_deadline_seconds=10,
        max_delivery_attempts=5,
        backoff_min_seconds=0.2,
        backoff_max_seconds=0.8,
    )
    create_topology(project, redelivery=redelivery)
    return QueueUnderTest(
        open=partial(PubsubQueue, project, visibility_seconds=10),
        visibility_seconds=10,
        backoff_min_seconds=0.2,
        backoff_max_seconds=0.8,
        first_backoff_seconds=0,
        max_deliveries=5,
        publish_bytes=_publish_bytes_to_pubsub,
        at_once_seconds=2,
        late_seconds=10,
        counts_messages=False,
    )


@pytest.fixture(params=["local", "gcp"])
def queue_under_test(request, tmp_path) -> QueueUnderTest:
    if request.param == "local":
        return _sqlite_queue(tmp_path)
    host = request.getfixturevalue("pubsub_emulator_host")
    request.getfixturevalue("monkeypatch").setenv("PUBSUB_EMULATOR_HOST", host)
    return _pubsub_queue(request.getfixturevalue("emulated_project"))


@pytest.fixture
def open_message_queue(queue_under_test) -> Callable[[], MessageQueue]:
    return queue_under_test.open


@pytest.fixture
def message_queue(open_message_queue) -> Iterator[MessageQueue]:
    with closing(open_message_queue()) as queue:
        yield queue


# --- artifacts


@pytest.fixture(params=["local", "gcp"])
def open_artifact_store(request, tmp_path) -> Callable[[], ArtifactStore]:
    if request.param == "gcp":
        return request.getfixturevalue("open_gcs_artifacts")
    return partial(
        DiskArtifacts,
        tmp_path / "artifacts",
        bucket="bucket",
        signing=partial(SigningSecrets, b"k" * 32),
    )


@pytest.fixture
def gcs(monkeypatch) -> Iterator[GcsServer]:
    """Our own Cloud Storage, which every client opened in this test speaks to."""
    with gcs_server(buckets=["bucket"], public_buckets=["public"]) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        # Google's libraries ask Google about an account now and then: no test speaks to Google.
        monkeypatch.setenv("HTTPS_PROXY", NOBODY_LISTENS)
        yield server


@pytest.fixture
def open_gcs_artifacts(gcs, tmp_path) -> Callable[..., GcsArtifacts]:
    key_file = tmp_path / "key.json"
    gcs.write_key_file(key_file)
    return partial(
        GcsArtifacts,
        bucket="bucket",
        project="demo-promptreel",
        credentials_file=key_file,
        signing="key_file",
    )


@pytest.fixture
def artifact_store(open_artifact_store) -> Iterator[ArtifactStore]:
    with closing(open_artifact_store()) as store:
        yield store


@pytest.fixture
def follow(request, artifact_store) -> Callable[[str, datetime], bytes]:
    """What whoever follows a link at a moment gets; raises ``LinkTampered``, ``ArtifactExpired``."""
    if isinstance(artifact_store, GcsArtifacts):
        return partial(_follow_over_http, request.getfixturevalue("gcs"))

    def fetch(url: str, now: datetime) -> bytes:
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=True)
        path = artifact_store.open_link(
            unquote(parts.path).removeprefix("/outputs/"),
            method="GET",
            expires=query["expires"][0],
            key_id=query["key_id"][0],
            signature=query["signature"][0],
            now=now,
        )
        return path.read_bytes()

    return fetch


def _follow_over_http(gcs: GcsServer, url: str, now: datetime) -> bytes:
    gcs.clock.stop_at(now)
    reply = httpx.get(url)
    if reply.is_success:
        return reply.content
    refusals = {
        (403, "SignatureDoesNotMatch"): LinkTampered,
        (400, "ExpiredToken"): ArtifactExpired,
        (404, "NoSuchKey"): ArtifactExpired,
    }
    code = re.search(r"<Code>(\w+)</Code>", reply.text)
    raise refusals[reply.status_code, code[1]]


@pytest.fixture
def slow_file(request, artifact_store, tmp_path) -> AbstractContextManager[SlowFile]:
    """A file that takes until the end of the block to store."""
    if isinstance(artifact_store, GcsArtifacts):
        return _held_upload(request.getfixturevalue("gcs"), tmp_path / "slow.mp4")
    return _slow_pipe(tmp_path / "pipe")


@contextmanager
def _slow_pipe(pipe: Path) -> Iterator[SlowFile]:
    os.mkfifo(pipe)
    with ExitStack() as stack:

        def wait_until_it_is_copied() -> None:
            writer = stack.enter_context(pipe.open("wb"))
            writer.write(b"half a clip")
            writer.flush()

        yield pipe, wait_until_it_is_copied


@contextmanager
def _held_upload(gcs: GcsServer, file: Path) -> Iterator[SlowFile]:
    file.write_bytes(b"a slow clip " * 2**21)  # 24 MiB: more than connections buffer
    with gcs.faults.hold_upload(after_bytes=2**20) as wait_until_it_is_uploaded:
        yield file, wait_until_it_is_uploaded


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
