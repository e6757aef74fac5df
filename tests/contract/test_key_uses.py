"""When API keys were used last: what every store of jobs promises of it."""

from contextlib import closing
from datetime import timedelta

from tests.jobs import NOON


def test_the_last_use_of_each_key_is_remembered(job_store, open_job_store):
    assert job_store.key_uses() == {}
    job_store.note_key_use("0123abcd", NOON)
    job_store.note_key_use("ffffffff", NOON + timedelta(seconds=1.5))
    job_store.note_key_use("0123abcd", NOON + timedelta(hours=1))
    with closing(open_job_store()) as another:
        assert another.key_uses() == {
            "0123abcd": NOON + timedelta(hours=1),
            "ffffffff": NOON + timedelta(seconds=1.5),
        }
