"""The ledger in the SQLite file: it holds whatever statement anybody runs on the file."""

import sqlite3
from contextlib import closing, suppress

import pytest

from shared.adapters.local.sqlite_jobs import SqliteJobs
from shared.admission import AdmissionLimits
from shared.job import Job
from tests.jobs import picture_job, plain_job

ANOTHER = "SELECT id, owner, month, 2, at, job_id, NULL FROM usage"


@pytest.fixture
def job() -> Job:
    return picture_job(idempotency_key="once")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage SET amount = 0",
        "UPDATE OR REPLACE usage SET month = '2026-02'",
        "DELETE FROM usage",
        f"INSERT INTO usage {ANOTHER} WHERE true ON CONFLICT DO UPDATE SET amount = 2",
        f"REPLACE INTO usage {ANOTHER}",
    ],
)
def test_what_is_in_the_ledger_is_neither_changed_nor_removed_by_any_statement(
    tmp_path, job, statement
):
    file = tmp_path / "jobs.sqlite3"
    with closing(SqliteJobs(file)) as jobs:
        jobs.admit(job)
    with closing(sqlite3.connect(file)) as connection:
        entries = connection.execute("SELECT * FROM usage").fetchall()
        with suppress(sqlite3.IntegrityError):
            connection.execute(statement)
        connection.commit()
        assert connection.execute("SELECT * FROM usage").fetchall() == entries
    assert entries == [
        ("job_1-debit", "ada", "2026-01", 1, job.created_at.timestamp(), "job_1", "once")
    ]


@pytest.mark.parametrize("statement", ["UPDATE usage SET amount = 0", "DELETE FROM usage"])
def test_who_would_change_the_ledger_is_refused(tmp_path, job, statement):
    with closing(SqliteJobs(tmp_path / "jobs.sqlite3")) as jobs:
        jobs.admit(job)
        with (
            jobs._database.write() as connection,
            pytest.raises(sqlite3.IntegrityError, match="ledger"),
        ):
            connection.execute(statement)


def test_a_file_from_before_there_were_pictures_opens_and_takes_some(tmp_path, job):
    file, video = tmp_path / "jobs.sqlite3", plain_job(id="job_0")
    with closing(SqliteJobs(file)) as jobs:
        jobs.admit(video)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DROP TABLE usage")  # and its index, and its triggers
        connection.execute("DROP INDEX jobs_images_of_owner")
        connection.execute(
            "UPDATE jobs SET document = json_remove(document, '$.remote', '$.charge')"
        )
        connection.commit()
    with closing(SqliteJobs(file)) as jobs:
        assert jobs.get(video.id) == video
        assert jobs.used("ada", "2026-01") == 0
        one = AdmissionLimits(images_in_flight_per_owner=1, images_per_month_per_owner=1)
        assert jobs.admit(job, one).created
        assert jobs.used("ada", "2026-01") == 1
