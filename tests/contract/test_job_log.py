"""What ``JobStore.read_log`` promises: a log read on from where one was, whichever adapter keeps it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.ports import JobStore


@pytest.fixture
def job_id(job_store, new_job) -> str:
    """Of a job whose log is not the first of its store."""
    for job in (loud := new_job(), quiet := new_job()):
        job_store.admit(job)
    job_store.append_log(loud.id, ["not", "mine"], now=loud.created_at)
    return quiet.id


def texts(store: JobStore, job_id: str, *, after: int = 0, limit: int = 100) -> list[str]:
    found = store.read_log(job_id, after=after, limit=limit)
    return [line.text.partition(" ")[2] for line in found]


def numbers(store: JobStore, job_id: str) -> list[int]:
    return [line.number for line in store.read_log(job_id, after=0, limit=10**6)]


def test_a_log_is_read_as_its_tail_is(job_store, job_id, noon):
    job_store.append_log(job_id, ["one", "two"], now=noon)
    job_store.append_log(job_id, ["three"], now=noon)
    found = job_store.read_log(job_id, after=0, limit=9)
    assert [line.text for line in found] == list(job_store.tail_log(job_id, tail=9))
    assert found[0].text == "2026-01-31T12:00:00Z one"


def test_numbers_grow_from_one_on_and_stay(job_store, job_id, noon):
    job_store.append_log(job_id, ["one", "two"], now=noon)
    earlier = numbers(job_store, job_id)
    job_store.append_log(job_id, ["three"], now=noon)
    later = numbers(job_store, job_id)
    assert later[:2] == earlier
    assert later == sorted(set(later))
    assert later[0] >= 1


def test_a_log_is_read_on_after_any_of_its_lines(job_store, job_id, noon):
    lines = [str(number) for number in range(7)]
    job_store.append_log(job_id, lines[:4], now=noon)
    job_store.append_log(job_id, lines[4:], now=noon)
    for place, number in enumerate(numbers(job_store, job_id), start=1):
        assert texts(job_store, job_id, after=number) == lines[place:]
        assert texts(job_store, job_id, after=number, limit=2) == lines[place : place + 2]


def test_no_more_lines_are_read_than_asked_for(job_store, job_id, noon):
    for start in range(0, 40, 10):
        burst = [str(number) for number in range(start, start + 10)]
        job_store.append_log(job_id, burst, now=noon)
    found, after = [], 0
    while lines := job_store.read_log(job_id, after=after, limit=7):
        assert len(lines) <= 7
        found += [line.text.split()[1] for line in lines]
        after = lines[-1].number
    assert found == [str(number) for number in range(40)]


def test_numbers_stay_when_old_lines_are_dropped(job_store, job_id, noon, log_lines_per_job):
    seen: dict[str, int] = {}
    for start in range(0, log_lines_per_job + 20, 10):
        burst = [str(number) for number in range(start, start + 10)]
        job_store.append_log(job_id, burst, now=noon)
        for line in job_store.read_log(job_id, after=0, limit=1000):
            assert seen.setdefault(line.text, line.number) == line.number
    kept = [str(number) for number in range(20, log_lines_per_job + 20)]
    assert texts(job_store, job_id, limit=1000) == kept
    # Who has read only the first gets all that are left, and none that it has had.
    assert texts(job_store, job_id, after=min(seen.values()), limit=1000) == kept


def test_after_the_last_line_there_is_nothing_however_far_one_asks(job_store, job_id, noon):
    job_store.append_log(job_id, ["one"], now=noon)
    (number,) = numbers(job_store, job_id)
    for after in (number, number + 1, 2**63, 10**30):
        assert texts(job_store, job_id, after=after) == []


def test_only_a_job_that_exists_has_lines(job_store, job_id):
    assert texts(job_store, job_id) == []
    assert texts(job_store, "job_unknown") == []


def test_who_reads_on_while_two_write_misses_no_line(job_store, job_id, noon):
    def write(writer: str) -> None:
        for number in range(20):
            job_store.append_log(job_id, [f"{writer} {number}"], now=noon)

    found: list[str] = []
    written = threading.Event()

    def read() -> None:
        after = 0
        while True:
            last_look = written.is_set()
            for line in job_store.read_log(job_id, after=after, limit=5):
                found.append(line.text.partition(" ")[2])
                after = line.number
            if last_look and after == numbers(job_store, job_id)[-1]:
                return

    with ThreadPoolExecutor(3) as threads:
        reading = threads.submit(read)
        list(threads.map(write, "ab"))
        written.set()
        reading.result(60)
    assert sorted(found) == sorted(f"{by} {number}" for by in "ab" for number in range(20))
    for by in "ab":
        assert [line for line in found if line[0] == by] == [f"{by} {n}" for n in range(20)]
