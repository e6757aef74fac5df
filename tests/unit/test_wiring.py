"""Plugging the adapters in: one secret an installation, and folders that cannot be used."""

import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.api.keys.sources import KeyFile, create_key
from shared.config import Config
from shared.errors import ConfigurationError
from shared.ports import ArtifactStore, JobStore, MessageQueue
from shared.submission import Submission
from shared.wiring import wire

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
SUBMISSION = Submission(owner="ada", prompt="a red circle", request_id="r", body={})


@pytest.fixture
def config_in() -> Callable[[Path], Config]:
    return lambda folder: Config().model_copy(update={"data_dir": folder})


def test_what_is_plugged_in_works_together(config_in, tmp_path):
    with closing(wire(config_in(tmp_path / "deep" / "data"))) as wiring:
        job = wiring.lifecycle.submit(SUBMISSION)
        assert wiring.store.get(job.id) == job
        assert wiring.queue.receive(["render-gpu"], wait_seconds=5).message.job_id == job.id
        wiring.store.ping()
        wiring.queue.ping()


def test_each_part_is_what_its_port_promises(config_in, tmp_path):
    def methods(port: type) -> set[str]:
        return {name for name in vars(port) if not name.startswith("_")}

    with closing(wire(config_in(tmp_path))) as wiring:
        for part, port in (
            (wiring.store, JobStore),
            (wiring.queue, MessageQueue),
            (wiring.artifacts, ArtifactStore),
        ):
            assert methods(port) <= methods(type(part))


def test_a_second_start_finds_the_jobs_and_signs_the_same_links(config_in, tmp_path):
    with closing(wire(config_in(tmp_path))) as wiring:
        job = wiring.lifecycle.submit(SUBMISSION)
        link = wiring.artifacts.link("v.mp4", expires_in_seconds=60, now=NOON)
    with closing(wire(config_in(tmp_path))) as wiring:
        assert wiring.store.get(job.id).request == job.request
        assert wiring.artifacts.link("v.mp4", expires_in_seconds=60, now=NOON) == link


def test_another_installation_signs_other_links_and_hashes_prompts_otherwise(config_in, tmp_path):
    with (
        closing(wire(config_in(tmp_path / "a"))) as a,
        closing(wire(config_in(tmp_path / "b"))) as b,
    ):
        links = [w.artifacts.link("v.mp4", expires_in_seconds=60, now=NOON).url for w in (a, b)]
        assert links[0] != links[1]
        assert a.lifecycle.prompt_hash_key != b.lifecycle.prompt_hash_key


def test_the_signing_key_can_be_read_by_its_user_only(config_in, tmp_path):
    wire(config_in(tmp_path)).close()
    key = tmp_path / "signing.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_bytes()) == 32


def test_a_new_data_folder_is_for_its_user_only(config_in, tmp_path):
    wire(config_in(tmp_path / "wired")).close()
    create_key(KeyFile(tmp_path / "keyed" / "keys.json"), "ada", NOON)
    for name in ("wired", "keyed"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_eight_threads_that_start_at_once_share_one_key(config_in, tmp_path):
    def link(_thread: int) -> str:
        with closing(wire(config_in(tmp_path))) as wiring:
            return wiring.artifacts.link("v.mp4", expires_in_seconds=60, now=NOON).url

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(link, range(8)))) == 1
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("tmp")] == []


def test_eight_processes_that_start_at_once_share_one_key(tmp_path):
    code = (
        "import sys\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from shared.config import Config\n"
        "from shared.wiring import wire\n"
        "config = Config().model_copy(update={'data_dir': Path(sys.argv[1])})\n"
        "print('ready', flush=True)\n"
        "while not Path(sys.argv[2]).exists(): pass\n"
        "wiring = wire(config)\n"
        "moment = datetime(2026, 1, 31, tzinfo=UTC)\n"
        "print(wiring.artifacts.link('v.mp4', expires_in_seconds=60, now=moment).url)\n"
        "wiring.close()\n"
    )
    go = tmp_path / "go"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path / "data", go],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    go.touch()
    links = [process.communicate(timeout=60)[0] for process in processes]
    assert links[0].startswith("/outputs/v.mp4?")
    assert len(set(links)) == 1


@pytest.mark.parametrize("content", [b"", b"short"])
def test_a_cut_off_signing_key_is_refused_not_used(config_in, tmp_path, content):
    (tmp_path / "signing.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"signing\.key"):
        wire(config_in(tmp_path))


def test_a_data_folder_that_cannot_be_used_is_a_configuration_error(config_in, tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below", Path("/dev/null/data"), Path("/proc/promptreel")):
        with pytest.raises(ConfigurationError) as caught:
            wire(config_in(folder))
        assert str(folder) in caught.value.message
        assert caught.value.problems[0][0] == "data_dir"


@pytest.mark.parametrize("name", ["jobs.sqlite3", "queue.sqlite3"])
def test_a_database_that_cannot_be_used_is_a_configuration_error(config_in, tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no database" * 100)
    with pytest.raises(ConfigurationError) as caught:
        wire(config_in(tmp_path))
    assert str(tmp_path) in caught.value.message


def test_the_limits_of_the_configuration_reach_the_adapters(config_in, tmp_path):
    config = config_in(tmp_path)
    limits = config.limits.model_copy(update={"log_lines_per_job": 2})
    queue = config.queue.model_copy(update={"max_deliveries": 1})
    config = config.model_copy(update={"limits": limits, "queue": queue})
    with closing(wire(config)) as wiring:
        job = wiring.lifecycle.submit(SUBMISSION)
        wiring.store.append_log(job.id, ["1", "2", "3"], now=NOON)
        assert len(wiring.store.tail_log(job.id, tail=9)) == 2
        delivery = wiring.queue.receive(["render-gpu"], wait_seconds=5)
        wiring.queue.release(delivery, delay_seconds=0)
        assert wiring.queue.receive(["render-gpu"], wait_seconds=0) is None
        assert len(wiring.queue.dead_letters(limit=9)) == 1
