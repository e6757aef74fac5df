"""How the Firestore store watches a job: by a stream, which ends with the watch."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
from google.api_core.exceptions import ServiceUnavailable

from shared.adapters.gcp import job_listener
from shared.adapters.gcp.indexes import JOBS
from shared.errors import JobNotFound, StoreUnavailable
from shared.job import Job, JobStatus
from shared.transitions import request_cancel


def one_more(job: Job) -> Job:
    return replace(job, attempt=job.attempt + 1)


def wait_until(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def stream_threads(firestore_jobs) -> Callable[[], set[threading.Thread]]:
    """The threads there are now that were not there before the first watch."""
    firestore_jobs.ping()
    before = set(threading.enumerate())
    return lambda: set(threading.enumerate()) - before


def test_nothing_is_left_of_a_watch_however_it_ends(firestore_jobs, stream_threads, new_job, noon):
    job = new_job()
    firestore_jobs.admit(job)
    list(firestore_jobs.watch(job.id, timeout_seconds=0.3))  # its time is over
    left_early = firestore_jobs.watch(job.id, timeout_seconds=20)
    next(left_early)
    firestore_jobs.update(job.id, one_more)
    next(left_early)
    assert stream_threads()
    left_early.close()
    to_its_end = firestore_jobs.watch(job.id, timeout_seconds=20)
    next(to_its_end)
    firestore_jobs.update(job.id, partial(request_cancel, now=noon))
    assert [seen.status for seen in to_its_end] == [JobStatus.CANCELED]
    assert wait_until(lambda: not stream_threads())


def test_a_watch_of_an_ended_job_opens_no_stream(firestore_jobs, new_job, finish, monkeypatch):
    job = new_job()
    firestore_jobs.admit(job)
    firestore_jobs.update(job.id, finish)
    monkeypatch.setattr(firestore_jobs._client._firestore_api, "listen", pytest.fail)
    watch = firestore_jobs.watch(job.id, timeout_seconds=20)
    assert [seen.status for seen in watch] == [JobStatus.FINISHED]


def test_a_closed_store_ends_its_watches(open_firestore_jobs, stream_threads, new_job):
    job = new_job()
    with closing(open_firestore_jobs()) as store, ThreadPoolExecutor(1) as thread:
        store.admit(job)
        watching = thread.submit(lambda: list(store.watch(job.id, timeout_seconds=60)))
        time.sleep(0.5)
        assert not watching.done()
        store.close()
        with pytest.raises(StoreUnavailable):
            watching.result(timeout=5)
    assert wait_until(lambda: not stream_threads())


def test_a_watch_beyond_the_streams_a_channel_carries_sees_changes_too(
    open_firestore_jobs, new_job, finish, monkeypatch
):
    monkeypatch.setattr(job_listener, "_MAX_STREAMS", 1)
    job = new_job()
    with closing(open_firestore_jobs()) as store:
        store.admit(job)
        watches = [store.watch(job.id, timeout_seconds=20) for _ in range(3)]
        with ThreadPoolExecutor(3) as threads:
            seen = threads.map(lambda watch: [found.status for found in watch], watches)
            time.sleep(0.5)
            store.update(job.id, finish)
        assert list(seen) == [[JobStatus.QUEUED, JobStatus.FINISHED]] * 3


def test_a_watch_whose_streams_break_still_sees_changes_and_does_not_spin(
    firestore_jobs, new_job, finish, monkeypatch
):
    opened = []

    def broken(**_arguments):
        opened.append(time.monotonic())
        raise ServiceUnavailable("the stream was reset")

    monkeypatch.setattr(firestore_jobs._client._firestore_api, "listen", broken)
    job = new_job()
    firestore_jobs.admit(job)
    watch = firestore_jobs.watch(job.id, timeout_seconds=20)
    next(watch)
    changing = threading.Timer(1.5, firestore_jobs.update, (job.id, finish))
    changing.start()
    assert next(watch).status is JobStatus.FINISHED
    assert len(opened) <= 3
    changing.join()


def test_a_watch_of_a_job_firestore_deletes_ends(firestore_jobs, new_job):
    job = new_job()
    firestore_jobs.admit(job)
    watch = firestore_jobs.watch(job.id, timeout_seconds=20)
    next(watch)
    document = firestore_jobs._client.collection(JOBS).document(job.id)
    deleting = threading.Timer(0.3, document.delete)
    deleting.start()
    with pytest.raises(JobNotFound):
        next(watch)
    deleting.join()
