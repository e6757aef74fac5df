"""The SQLite file under the local adapters: what a port's contract cannot see."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from shared.adapters.local.sqlite import Database
from shared.adapters.local.sqlite_admission import MANY
from shared.adapters.local.sqlite_jobs import SqliteJobs, _insert
from shared.adapters.local.sqlite_queue import SqliteQueue
from shared.admission import AdmissionLimits
from shared.errors import QueueFull, StoreUnavailable
from shared.job import Job, JobStatus, Phase
from shared.messages import Message
from shared.transitions import (
    acknowledge_cancel,
    claim,
    heartbeat,
    mark_published,
    report,
    request_cancel,
)
from tests.jobs import picture_job

ROOT = Path(__file__).parents[2]
SCHEMA = "CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY)"
LATE_CHECK = """
CREATE TABLE IF NOT EXISTS numbers (number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS notes (
    number INTEGER REFERENCES numbers (number) DEFERRABLE INITIALLY DEFERRED
);
"""

EVERY_LIMIT = AdmissionLimits(
    queued_per_model=1,
    queued_per_owner=9,
    in_flight_per_owner=9,
    submissions_per_minute_per_owner=9,
    images_in_flight_per_owner=9,
    images_per_month_per_owner=9,
)


def open_database(file: Path, schema: str = SCHEMA, **settings: float) -> Database:
    return Database(file, schema, unavailable=StoreUnavailable, **settings)


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    with closing(open_database(tmp_path / "numbers.sqlite3")) as opened:
        yield opened


@pytest.fixture
def job() -> Job:
    return picture_job(idempotency_key="once")


def add(database: Database, number: int) -> None:
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def numbers(database: Database) -> list[int]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT number FROM numbers ORDER BY 1")]


def open_files(file: Path) -> int:
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one the folder itself is read by
            found += descriptor.readlink() == file
    return found


class Disk:
    """Counts what is flushed to it; a flush takes ``seconds``."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        self.error: OSError | None = None
        self.flushed: list[str] = []
        self._fsync = os.fsync
        monkeypatch.setattr("shared.adapters.local.sqlite.os.fsync", self._flush)

    def _flush(self, descriptor):
        self.flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self._fsync(descriptor)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_a_write_is_over_when_it_is_on_the_disk(database, disk):
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
        assert disk.flushed == []
    assert disk.flushed == ["numbers.sqlite3-wal"]
    with database.transaction() as connection:
        connection.execute("INSERT INTO numbers VALUES (2)")
    assert len(disk.flushed) == 1
    assert numbers(database) == [1, 2]


def test_those_who_write_while_the_disk_is_busy_wait_for_it_together(database, disk):
    disk.seconds = 0.1
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda number: add(database, number), range(20)))

    assert len(numbers(database)) == 20
    assert 2 <= len(disk.flushed) <= 6  # the first alone; all that came meanwhile together


def test_a_flush_that_began_before_a_write_does_not_count_for_it(database, disk):
    disk.seconds = 0.3
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(add, database, 1)
        while not disk.flushed:
            time.sleep(0.001)
        second = threads.submit(add, database, 2)
        first.result(timeout=30)
        assert not second.done()
        second.result(timeout=30)

    assert len(disk.flushed) == 2


def test_after_a_flush_has_failed_nothing_is_said_to_be_on_the_disk(database, disk):
    disk.error = OSError("the disk is gone")
    with pytest.raises(StoreUnavailable, match="flushed"):
        add(database, 1)
    disk.error = None

    with pytest.raises(StoreUnavailable, match="flushed"):
        add(database, 2)
    assert numbers(database) == [1, 2]  # it may be there, it may be gone after a power cut


def test_who_waits_for_a_change_is_told_by_another_process_at_once(tmp_path, database):
    told = []

    def wait():
        for _ in database.changes(seconds=30):
            told.append(numbers(database))
            if told[-1]:
                return

    with (
        locked_by_another_process(tmp_path / "numbers.sqlite3") as commit,
        ThreadPoolExecutor(1) as thread,
    ):
        waiting = thread.submit(wait)
        while not told:
            time.sleep(0.001)
        commit()
        waiting.result(timeout=10)
    assert told == [[], [1]]  # it did not look in between


def test_who_waits_for_a_change_looks_once_in_a_while_and_at_the_end(database):
    begun = time.monotonic()
    assert len(list(database.changes(seconds=0.25))) == 2
    assert time.monotonic() - begun >= 0.25
    assert len(list(database.changes(seconds=0.3, every_seconds=0.1))) in {3, 4}
    assert len(list(database.changes(seconds=0))) == 1


def test_of_a_job_only_what_a_worker_says_again_is_not_flushed_at_once(tmp_path, disk):
    job = picture_job()
    now = job.created_at
    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as jobs:

        def flushes(transition: Callable[..., Job], **named: object) -> int:
            before = len(disk.flushed)
            jobs.update(job.id, partial(transition, now=now, **named))
            return len(disk.flushed) - before

        jobs.admit(job)
        assert len(disk.flushed) == 1
        assert flushes(mark_published) == 0
        assert flushes(claim, token="t", worker="w", lease_seconds=30) == 1
        assert flushes(heartbeat, token="t", lease_seconds=60) == 0
        assert flushes(report, token="t", phase=Phase.PLAN, fraction=1.0, lease_seconds=60) == 0
        assert flushes(request_cancel) == 1
        assert flushes(acknowledge_cancel, token="t") == 1


def test_readers_do_not_wait_for_writers(database):
    with database.read() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    with database.write() as connection:
        connection.execute("INSERT INTO numbers VALUES (1)")
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(numbers, database).result(timeout=5) == []


def test_an_exception_undoes_the_whole_transaction(database):
    def broken() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
            raise KeyError("ours")

    with pytest.raises(KeyError, match="ours"):
        broken()
    assert numbers(database) == []
    add(database, 2)


def test_a_commit_that_fails_does_not_keep_the_write_lock(tmp_path):
    file = tmp_path / "late.sqlite3"
    with (
        closing(open_database(file, LATE_CHECK)) as database,
        closing(open_database(file)) as other,
    ):

        def break_at_commit() -> None:
            with database.write() as connection:
                connection.execute("INSERT INTO notes VALUES (404)")

        with pytest.raises(StoreUnavailable):
            break_at_commit()
        add(database, 1)
        add(other, 2)
        assert numbers(database) == [1, 2]


def test_threads_that_come_and_go_leave_no_connection_open(tmp_path):
    file = tmp_path / "numbers.sqlite3"
    with closing(open_database(file)) as database:
        for number in range(30):
            thread = threading.Thread(target=add, args=(database, number))
            thread.start()
            thread.join()
        assert len(numbers(database)) == 30
        assert open_files(file) <= 2
    assert open_files(file) == 0


def test_closing_lets_a_running_call_end_and_then_holds_nothing(tmp_path):
    file = tmp_path / "numbers.sqlite3"
    database = open_database(file)
    with database.write() as connection:
        database.close()
        connection.execute("INSERT INTO numbers VALUES (1)")
    assert open_files(file) == 0
    with closing(open_database(file)) as reopened:
        assert numbers(reopened) == [1]


def test_thirty_threads_that_write_at_once_all_succeed(database):
    with ThreadPoolExecutor(30) as threads:
        list(threads.map(lambda number: add(database, number), range(120)))
    assert len(numbers(database)) == 120


@contextmanager
def locked_by_another_process(file: Path) -> Iterator[Callable[[], None]]:
    """Another process has written 1 and not committed; what is yielded has it commit."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "connection.execute('INSERT INTO numbers VALUES (1)')\n"
        "print('locked', flush=True)\n"
        "sys.stdin.readline()\n"
        "connection.commit()\n"
        "print('committed', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "locked\n"

        def commit() -> None:
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "committed\n"

        yield commit


def test_a_writer_waits_for_another_process_to_commit(tmp_path, database):
    with (
        locked_by_another_process(tmp_path / "numbers.sqlite3") as commit,
        ThreadPoolExecutor(1) as thread,
    ):
        waiting = thread.submit(add, database, 2)
        assert not waiting.done()
        commit()
        waiting.result(timeout=10)
    assert numbers(database) == [1, 2]


def test_a_writer_that_waited_too_long_is_told_so_and_nothing_is_lost(tmp_path):
    file = tmp_path / "numbers.sqlite3"
    with closing(open_database(file, busy_timeout_seconds=0.2)) as database:
        add(database, 0)
        with locked_by_another_process(file) as commit:
            with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
                add(database, 2)
            assert numbers(database) == [0]  # who only reads need not wait
            commit()
            assert numbers(database) == [0, 1]
            add(database, 2)
        assert numbers(database) == [0, 1, 2]


def test_a_writer_that_waited_too_long_for_its_own_process_is_told_so_too(tmp_path):
    with (
        closing(open_database(tmp_path / "n.sqlite3", busy_timeout_seconds=0.2)) as database,
        ThreadPoolExecutor(1) as thread,
    ):
        with database.write() as connection:
            connection.execute("INSERT INTO numbers VALUES (1)")
            with pytest.raises(StoreUnavailable, match="still writing"):
                thread.submit(add, database, 2).result(timeout=30)
        add(database, 2)
        assert numbers(database) == [1, 2]


def test_a_new_file_another_process_is_just_preparing_is_waited_for(tmp_path):
    file = tmp_path / "numbers.sqlite3"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        # Not in WAL mode yet, and locked: SQLite refuses the change of mode without waiting.
        other.execute("CREATE TABLE others (number)")
        other.execute("BEGIN IMMEDIATE")
        commit = threading.Timer(0.3, other.commit)
        commit.start()
        with closing(open_database(file)) as database:
            add(database, 1)
            assert numbers(database) == [1]
        commit.join()


def test_eight_processes_may_start_on_a_new_file_at_once(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from shared.adapters.local.sqlite_jobs import SqliteJobs\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while not (folder / 'go').exists(): pass\n"
        "for number in range(20): SqliteJobs(folder / f'{number}.sqlite3').close()\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").touch()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 8


def test_a_file_that_is_no_database_is_unavailable_and_its_name_is_kept_back(tmp_path):
    file = tmp_path / "numbers.sqlite3"
    file.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreUnavailable) as caught:
        open_database(file)
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


# --- what the queries cost


@contextmanager
def plans(database: Database) -> Iterator[dict[str, str]]:
    """How SQLite answered each statement that was run inside, by statement."""
    statements: list[str] = []
    found: dict[str, str] = {}
    connect = database._connect

    def traced() -> sqlite3.Connection:
        connection = connect()
        connection.set_trace_callback(statements.append)
        return connection

    while database._idle:
        database._idle.pop().close()
    database._connect = traced
    yield found
    for connection in database._idle:
        connection.set_trace_callback(None)
    with database.read() as connection:
        for statement in statements:
            if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                # SQLite writes infinity in a way it does not read.
                plain = statement.replace(" Inf", " 9e999")
                steps = connection.execute(f"EXPLAIN QUERY PLAN {plain}")
                found[statement] = "; ".join(step["detail"] for step in steps)


def test_no_query_over_jobs_reads_or_sorts_them_all(tmp_path, job):
    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as jobs, plans(jobs._database) as found:
        jobs.admit(job, EVERY_LIMIT)
        jobs.admit(job, EVERY_LIMIT)
        jobs.get(job.id)
        jobs.update(job.id, partial(mark_published, now=job.created_at))
        jobs.append_log(job.id, ["line"], now=job.created_at)
        jobs.tail_log(job.id, tail=10)
        jobs.read_log(job.id, after=1, limit=10)
        for newest_first, after in product((True, False), (None, job.id)):
            for statuses in (None, [JobStatus.QUEUED], list(JobStatus)):
                jobs.list(
                    job.owner,
                    kind="image",
                    limit=10,
                    after=after,
                    newest_first=newest_first,
                    statuses=statuses,
                )
        jobs.due(job.created_at, limit=10, statuses=JobStatus)
        jobs.counts()
        jobs.ended_since(job.created_at, model=job.request.model)
        jobs.ended_since(job.created_at, owner=job.owner)
        jobs.queued_before(job.request.model, [job.created_at])
        jobs.used(job.owner, "2026-01")
        jobs.delete(job.id)
    assert len(found) >= 30
    of_pages = [steps for steps in found.values() if "jobs_pages" in steps]
    assert len(of_pages) == 12
    assert all("(owner=? AND <expr>=?" in steps for steps in of_pages)
    # From the job before on, and not from the first.
    assert sum("(created_at,id)" in steps for steps in of_pages) == 6
    counts = [statement for statement in found if "count(*)" in statement]
    (images,) = [found[statement] for statement in counts if "request.kind" in statement]
    assert "jobs_images_of_owner (owner=? AND status=?)" in images  # no video is read
    counting = [steps for statement, steps in found.items() if "GROUP BY" in statement]
    assert counting == ["SCAN jobs USING COVERING INDEX jobs_status"]
    (waiting,) = [found[statement] for statement in counts if "created_at <" in statement]
    assert "jobs_queued_of_model_in_order (<expr>=? AND created_at<?)" in waiting
    ended = [steps for statement, steps in found.items() if "julianday" in statement]
    assert len(ended) == 2
    assert all("<expr>>?" in steps for steps in ended)  # by the moment, not by the model alone
    others = [steps for statement, steps in found.items() if "GROUP BY" not in statement]
    assert not [steps for steps in others if "SCAN" in steps or "TEMP B-TREE" in steps]


def test_a_place_in_a_long_queue_is_right_within_a_second_and_near_its_head_at_once(tmp_path, job):
    def made(number):
        return replace(
            job,
            id=f"job_{number}",
            idempotency_key=None,
            created_at=job.created_at + timedelta(seconds=number),
        )

    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as jobs:
        with jobs._database.write() as connection:
            for number in range(MANY + 40):
                _insert(connection, made(number))
        before = partial(jobs.queued_before, job.request.model)
        moments = [made(number).created_at for number in (3, MANY - 1, MANY + 7, MANY + 39)]
        assert before(moments) == [3, MANY - 1, MANY + 7, MANY + 39]

        for number in range(2):
            jobs.delete(f"job_{number}")

        assert before(moments[:2]) == [1, MANY - 3]
        deadline = time.monotonic() + 20
        while before(moments[2:]) != [MANY + 5, MANY + 37]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_of_many_admissions_at_once_no_more_come_in_than_may_wait(tmp_path, job):
    def is_admitted(number: int) -> bool:
        try:
            return jobs.admit(
                replace(job, id=f"job_{number}", idempotency_key=None),
                AdmissionLimits(queued_per_model=3),
            ).created
        except QueueFull:
            return False

    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as jobs, ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(is_admitted, range(8))) == 3


def test_the_jobs_of_a_file_from_before_there_were_limits_count(tmp_path, job):
    file = tmp_path / "jobs.sqlite3"
    with closing(SqliteJobs(file)) as jobs:
        jobs.admit(job)
    with closing(sqlite3.connect(file)) as connection:
        for index in (
            "queued_of_model_in_order",
            "owner_status",
            "ended_of_model",
            "ended_of_owner",
        ):
            connection.execute(f"DROP INDEX jobs_{index}")
    with closing(SqliteJobs(file)) as jobs, pytest.raises(QueueFull):
        jobs.admit(replace(job, id="job_2", idempotency_key=None), EVERY_LIMIT)


def test_the_jobs_of_a_file_from_before_there_were_pages_are_listed(tmp_path, job):
    file = tmp_path / "jobs.sqlite3"
    with closing(SqliteJobs(file)) as jobs:
        jobs.admit(job)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP INDEX jobs_pages")
    with closing(SqliteJobs(file)) as jobs:
        assert list(jobs.list(job.owner, kind="image", limit=1).jobs) == [job]


def test_no_query_over_messages_reads_or_sorts_them_all(tmp_path):
    queue = SqliteQueue(
        tmp_path / "queue.sqlite3",
        visibility_seconds=1,
        backoff_min_seconds=1,
        backoff_max_seconds=1,
        max_deliveries=1,
    )
    with closing(queue), plans(queue._database) as found:
        queue.publish("topic", Message(job_id="job_1"))
        delivery = queue.receive(["topic"], wait_seconds=0)
        queue.extend(delivery)
        queue.release(delivery)
        queue.acknowledge(delivery)
        queue.depth("topic")
        queue.dead_letters(limit=10)
    assert len(found) >= 7
    assert not [steps for steps in found.values() if "SCAN" in steps]
    living = [steps for statement, steps in found.items() if "dead = 1" not in statement]
    assert not [steps for steps in living if "TEMP B-TREE" in steps]
