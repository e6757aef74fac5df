"""What ``JobStore`` promises, whichever adapter keeps it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from shared.errors import IdempotencyConflict, JobNotFound, LeaseHeld
from shared.job import IN_FLIGHT, TERMINAL, Job, JobStatus
from shared.ports import WorkerBeat
from shared.transitions import claim, mark_published, release, request_cancel

CLAIM = """
from datetime import datetime
from functools import partial
from shared.errors import LeaseHeld
from shared.transitions import claim

worker, now = sys.argv[1], datetime.fromisoformat(sys.argv[2])
for job_id in sys.stdin.readline().split():
    transition = partial(claim, token=worker, worker=worker, now=now, lease_seconds=30)
    try:
        opened.update(job_id, transition)
    except LeaseHeld:
        continue
    print(job_id, flush=True)
"""
COUNT = """
from dataclasses import replace

sys.stdin.readline()
for _ in range(100):
    opened.update(sys.argv[1], lambda job: replace(job, attempt=job.attempt + 1))
"""


def ids(jobs: Sequence[Job]) -> list[str]:
    return [job.id for job in jobs]


# --- admit


def test_a_new_job_is_stored_as_it_is(job_store, new_job):
    job = new_job(idempotency_key="once", traceparent="00-trace")
    admitted = job_store.admit(job)
    assert admitted.created
    assert admitted.job == job == job_store.get(job.id)


def test_a_job_survives_closing_and_opening_the_store(
    job_store, open_job_store, new_job, finish, noon
):
    job = new_job()
    job_store.admit(job)
    job_store.append_log(job.id, ["one"], now=noon)
    finished = job_store.update(job.id, finish)
    job_store.close()
    with closing(open_job_store()) as reopened:
        assert reopened.get(job.id) == finished
        assert len(reopened.tail_log(job.id, tail=9)) == 1


def test_a_known_key_with_the_same_request_returns_the_earlier_job(job_store, new_job):
    first = new_job(idempotency_key="once")
    job_store.admit(first)
    again = job_store.admit(new_job(idempotency_key="once"))
    assert not again.created
    assert again.job == first


def test_a_known_key_returns_the_earlier_job_as_it_is_now(job_store, new_job, finish):
    first = new_job(idempotency_key="once")
    job_store.admit(first)
    finished = job_store.update(first.id, finish)
    assert job_store.admit(new_job(idempotency_key="once")).job == finished


def test_a_known_key_with_another_request_is_a_conflict_and_stores_nothing(job_store, new_job):
    first, other = (
        new_job(idempotency_key="once"),
        new_job(idempotency_key="once", request_hash="other"),
    )
    job_store.admit(first)
    with pytest.raises(IdempotencyConflict):
        job_store.admit(other)
    with pytest.raises(JobNotFound):
        job_store.get(other.id)


def test_the_same_key_of_another_owner_is_another_job(job_store, new_job):
    job_store.admit(new_job(idempotency_key="once"))
    assert job_store.admit(new_job(idempotency_key="once", owner="bob")).created


def test_jobs_without_a_key_are_all_new(job_store, new_job):
    assert all(job_store.admit(new_job()).created for _ in range(3))


def test_of_many_admissions_with_one_key_at_once_one_creates_the_job(job_store, new_job):
    jobs = [new_job(idempotency_key="once") for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        admitted = list(threads.map(job_store.admit, jobs))
    assert sum(one.created for one in admitted) == 1
    assert len({one.job.id for one in admitted}) == 1


def test_a_forgotten_job_frees_its_key(job_store, new_job):
    first = new_job(idempotency_key="once")
    job_store.admit(first)
    job_store.delete(first.id)
    assert job_store.admit(new_job(idempotency_key="once")).created


# --- get, update, delete


def test_an_unknown_job_is_not_found(job_store, noon):
    for call in (
        partial(job_store.get, "job_unknown"),
        partial(job_store.update, "job_unknown", partial(mark_published, now=noon)),
        partial(next, job_store.watch("job_unknown", timeout_seconds=0)),
    ):
        with pytest.raises(JobNotFound):
            call()


@pytest.mark.parametrize("job_id", ["a/b", "a/b/c", ".", "..", "__a__", "ü", "a\0", "x" * 2000])
def test_an_id_no_job_can_have_is_not_found_and_no_other_error(job_store, job_id):
    with pytest.raises(JobNotFound):
        job_store.get(job_id)
    job_store.delete(job_id)


def test_an_update_returns_what_it_stored(job_store, new_job, finish):
    job = new_job()
    job_store.admit(job)
    finished = job_store.update(job.id, finish)
    assert finished.status is JobStatus.FINISHED
    assert job_store.get(job.id) == finished


def test_what_a_transition_raises_passes_through_and_leaves_the_job_unchanged(job_store, new_job):
    job = new_job()
    job_store.admit(job)

    def refuse(_job: Job) -> Job:
        raise LeaseHeld("no")

    with pytest.raises(LeaseHeld, match="no"):
        job_store.update(job.id, refuse)
    assert job_store.get(job.id) == job


def test_the_store_serves_on_after_a_transition_that_broke(job_store, new_job, finish):
    job = new_job()
    job_store.admit(job)
    with pytest.raises(ZeroDivisionError):
        job_store.update(job.id, lambda _job: 1 // 0)
    assert job_store.update(job.id, finish).status is JobStatus.FINISHED


def test_of_many_claims_at_once_one_wins(job_store, new_job, noon):
    job = new_job()
    job_store.admit(job)

    def try_to_claim(worker: str) -> bool:
        transition = partial(claim, token=worker, worker=worker, now=noon, lease_seconds=30)
        try:
            return job_store.update(job.id, transition).lease.token == worker
        except LeaseHeld:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(try_to_claim, map(str, range(8)))) == 1
    assert job_store.get(job.id).attempt == 1


def test_of_two_processes_that_claim_the_same_jobs_each_job_has_one_winner(
    job_store, open_job_store, start_process, new_job, noon
):
    jobs = [new_job() for _ in range(40)]
    for job in jobs:
        job_store.admit(job)
    workers = {
        name: start_process(CLAIM, open_job_store, name, noon.isoformat()) for name in ("a", "b")
    }
    for process in workers.values():
        process.stdin.write(" ".join(ids(jobs)) + "\n")
        process.stdin.flush()
    won = {name: process.communicate()[0].split() for name, process in workers.items()}
    assert [process.returncode for process in workers.values()] == [0, 0]
    assert sorted(won["a"] + won["b"]) == sorted(ids(jobs))
    for name, claimed in won.items():
        assert all(job_store.get(job_id).lease.token == name for job_id in claimed)


def test_updates_at_once_are_all_kept(job_store, new_job):
    job = new_job(max_attempts=1000)
    job_store.admit(job)

    def one_more(stored: Job) -> Job:
        return replace(stored, attempt=stored.attempt + 1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: job_store.update(job.id, one_more), range(80)))
    assert job_store.get(job.id).attempt == 80


def test_updates_of_two_processes_at_once_are_all_kept(
    job_store, open_job_store, start_process, new_job
):
    job = new_job(max_attempts=1000)
    job_store.admit(job)
    writers = [start_process(COUNT, open_job_store, job.id) for _ in range(2)]
    for process in writers:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in writers:
        process.communicate()
    assert [process.returncode for process in writers] == [0, 0]
    assert job_store.get(job.id).attempt == 200


def test_a_deleted_job_is_gone_with_its_log_and_deleting_again_is_no_error(
    job_store, new_job, noon
):
    job = new_job()
    job_store.admit(job)
    job_store.append_log(job.id, ["one"], now=noon)
    job_store.delete(job.id)
    job_store.delete(job.id)
    with pytest.raises(JobNotFound):
        job_store.get(job.id)
    job_store.admit(job)
    assert list(job_store.tail_log(job.id, tail=10)) == []


# --- due, counts


def test_due_has_the_jobs_whose_moment_has_come_longest_due_first(job_store, new_job, finish, noon):
    waiting, published, finished, later = (new_job() for _ in range(4))
    for job in (later, finished, published, waiting):
        job_store.admit(job)
    job_store.update(published.id, partial(mark_published, now=noon))
    job_store.update(finished.id, finish)
    job_store.update(later.id, partial(mark_published, now=noon + timedelta(days=1)))
    assert not job_store.due(noon, limit=10, statuses=JobStatus)
    assert ids(job_store.due(noon + timedelta(hours=2), limit=10, statuses=JobStatus)) == ids(
        [waiting, finished, published]
    )
    assert ids(job_store.due(noon + timedelta(hours=2), limit=1, statuses=JobStatus)) == [
        waiting.id
    ]


def test_those_with_other_statuses_are_left_out_however_long_they_are_due(
    job_store, new_job, finish, noon
):
    finished, waiting = new_job(), new_job()
    for job in (finished, waiting):
        job_store.admit(job)
    job_store.update(finished.id, finish)
    later = noon + timedelta(days=99)
    assert ids(job_store.due(later, limit=1, statuses=IN_FLIGHT)) == [waiting.id]
    assert ids(job_store.due(later, limit=1, statuses=TERMINAL)) == [finished.id]


def test_a_job_is_due_at_its_moment_to_the_microsecond(job_store, new_job, noon):
    job = new_job(created_at=noon + timedelta(microseconds=123457))
    job_store.admit(job)
    assert not job_store.due(job.due_at - timedelta(microseconds=1), limit=1, statuses=JobStatus)
    assert ids(job_store.due(job.due_at, limit=1, statuses=JobStatus)) == [job.id]


def test_a_change_moves_when_a_job_is_due(job_store, new_job, noon):
    job = new_job()
    job_store.admit(job)
    claimed = job_store.update(
        job.id, partial(claim, token="t", worker="w", now=noon, lease_seconds=600)
    )
    assert not job_store.due(claimed.due_at - timedelta(seconds=1), limit=1, statuses=JobStatus)
    assert ids(job_store.due(claimed.due_at, limit=1, statuses=JobStatus)) == [job.id]


def test_counts_have_every_status(job_store, new_job, finish, noon):
    assert job_store.counts() == dict.fromkeys(JobStatus, 0)
    for _ in range(3):
        job_store.admit(job := new_job())
    job_store.update(job.id, finish)
    job_store.admit(job := new_job())
    job_store.update(job.id, partial(request_cancel, now=noon))
    expected = {JobStatus.QUEUED: 2, JobStatus.FINISHED: 1, JobStatus.CANCELED: 1}
    assert job_store.counts() == dict.fromkeys(JobStatus, 0) | expected


# --- watch


def test_a_watch_shows_the_job_every_change_and_stops_at_the_end(job_store, new_job, finish, noon):
    job = new_job()
    job_store.admit(job)
    changes = [
        partial(claim, token="t", worker="w", now=noon, lease_seconds=30),
        partial(release, token="t", now=noon),
        finish,
    ]
    seen = []
    for current in job_store.watch(job.id, timeout_seconds=20):
        seen.append(current.status)
        if changes:
            job_store.update(job.id, changes.pop(0))
    assert seen == [JobStatus.QUEUED, JobStatus.STARTED, JobStatus.QUEUED, JobStatus.FINISHED]


def test_a_watch_sees_what_another_thread_changes_within_half_a_second(job_store, new_job, finish):
    job = new_job()
    job_store.admit(job)
    changed_at = []

    def change() -> None:
        changed_at.append(time.monotonic())  # before: the news may be here before the reply
        job_store.update(job.id, finish)

    watch = job_store.watch(job.id, timeout_seconds=20)
    next(watch)
    changing = threading.Timer(0.2, change)
    changing.start()
    assert next(watch).status is JobStatus.FINISHED
    assert time.monotonic() - changed_at[0] < 0.5
    changing.join()


def test_a_watch_ends_when_its_time_is_over(job_store, new_job):
    job = new_job()
    job_store.admit(job)
    started = time.monotonic()
    assert list(job_store.watch(job.id, timeout_seconds=0.3)) == [job]
    assert 0.3 <= time.monotonic() - started < 2


def test_a_watch_of_a_job_that_is_deleted_ends(job_store, new_job):
    job = new_job()
    job_store.admit(job)
    watch = job_store.watch(job.id, timeout_seconds=20)
    next(watch)
    job_store.delete(job.id)
    with pytest.raises(JobNotFound):
        next(watch)


# --- the log


def test_the_tail_of_a_log_is_its_newest_lines_with_their_moment(job_store, new_job, noon):
    job = new_job()
    job_store.admit(job)
    job_store.append_log(job.id, ["one", "two"], now=noon)
    job_store.append_log(job.id, ["three"], now=noon + timedelta(seconds=1, microseconds=5))
    assert list(job_store.tail_log(job.id, tail=2)) == [
        "2026-01-31T12:00:00Z two",
        "2026-01-31T12:00:01Z three",
    ]
    assert len(job_store.tail_log(job.id, tail=100)) == 3


def test_a_log_keeps_its_newest_lines_only(job_store, new_job, noon, log_lines_per_job):
    loud, quiet = new_job(), new_job()
    for job in (loud, quiet):
        job_store.admit(job)
        job_store.append_log(job.id, ["first"], now=noon)
    for start in range(0, log_lines_per_job + 20, 10):
        lines = [str(number) for number in range(start, start + 10)]
        job_store.append_log(loud.id, lines, now=noon)
    kept = [line.split()[1] for line in job_store.tail_log(loud.id, tail=10**6)]
    assert kept == [str(number) for number in range(20, log_lines_per_job + 20)]
    assert len(job_store.tail_log(quiet.id, tail=10)) == 1


def test_lines_of_two_writers_are_all_kept_and_each_ones_in_order(job_store, new_job, noon):
    job = new_job()
    job_store.admit(job)

    def write(writer: str) -> None:
        for number in range(20):
            job_store.append_log(job.id, [f"{writer} {number}"], now=noon)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "ab"))
    lines = [line.split()[1:] for line in job_store.tail_log(job.id, tail=100)]
    for writer in "ab":
        assert [int(number) for by, number in lines if by == writer] == list(range(20))


def test_a_line_of_any_length_is_stored_or_cut_and_keeps_no_later_one_out(job_store, new_job, noon):
    job = new_job()
    job_store.admit(job)
    job_store.append_log(job.id, ["x" * 2**21, "after"], now=noon)
    long, after = job_store.tail_log(job.id, tail=2)
    assert long.startswith("2026-01-31T12:00:00Z xxx")
    assert after.endswith(" after")


def test_only_a_job_that_exists_has_a_log(job_store, noon):
    with pytest.raises(JobNotFound):
        job_store.append_log("job_unknown", ["one"], now=noon)
    assert list(job_store.tail_log("job_unknown", tail=10)) == []


def test_a_log_without_lines_is_empty(job_store, new_job):
    job = new_job()
    job_store.admit(job)
    assert list(job_store.tail_log(job.id, tail=10)) == []


# --- workers and the store itself


def test_a_worker_is_seen_by_its_newest_heartbeat_while_that_is_fresh(job_store, noon):
    beat = WorkerBeat(
        instance="w1", model="m", device=None, model_loaded=False, job_id=None, seen_at=noon
    )
    newer = replace(
        beat, device="cpu", model_loaded=True, job_id="j", seen_at=noon + timedelta(seconds=5)
    )
    job_store.beat(beat)
    job_store.beat(newer)
    job_store.beat(replace(beat, instance="w2"))
    assert list(job_store.workers(seen_since=newer.seen_at)) == [newer]
    assert {seen.instance for seen in job_store.workers(seen_since=noon)} == {"w1", "w2"}


def test_the_store_answers_a_ping(job_store):
    job_store.ping()


def test_nobody_sees_half_an_update(job_store, open_job_store, new_job):
    """Two clients: one writes two fields together, the other must never see them differ."""
    job = new_job(max_attempts=10**6)
    job_store.admit(job)
    with closing(open_job_store()) as other, ThreadPoolExecutor(1) as thread:

        def both(stored: Job) -> Job:
            return replace(stored, attempt=stored.attempt + 1, progress=stored.progress + 1)

        writing = thread.submit(lambda: [job_store.update(job.id, both) for _ in range(100)])
        while not writing.done():
            seen = other.get(job.id)
            assert seen.attempt == seen.progress
        writing.result()
