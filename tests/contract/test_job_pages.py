"""What ``JobStore`` promises of lists and of the queue in them, whichever adapter keeps the jobs."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from shared.errors import JobNotFound
from shared.job import JobStatus
from shared.ports import JobPage, JobStore
from shared.transitions import request_cancel
from tests.jobs import picture_job


def ids(page: JobPage) -> list[str]:
    return [job.id for job in page.jobs]


def pages(store: JobStore, *, limit: int, **asked) -> Iterator[JobPage]:
    """All of ada's videos, page by page, as a caller goes through them."""
    page = store.list("ada", kind="video", limit=limit, **asked)
    yield page
    while page.has_more:
        page = store.list("ada", kind="video", limit=limit, after=page.jobs[-1].id, **asked)
        yield page


def test_a_list_has_the_owners_jobs_of_a_kind_newest_first_or_last(job_store, new_job):
    jobs = [new_job() for _ in range(3)]
    for job in (jobs[1], jobs[0], jobs[2], new_job(owner="bob")):
        job_store.admit(job)
    job_store.admit(picture_job(id="job_p"))
    newest_first = job_store.list("ada", kind="video", limit=10)
    assert list(newest_first.jobs) == jobs[::-1]
    assert not newest_first.has_more
    assert list(job_store.list("ada", kind="video", limit=10, newest_first=False).jobs) == jobs
    assert ids(job_store.list("ada", kind="image", limit=10)) == ["job_p"]


def test_who_has_no_jobs_has_an_empty_page(job_store, new_job):
    job_store.admit(new_job())
    for owner, kind in (("eve", "video"), ("ada", "image")):
        page = job_store.list(owner, kind=kind, limit=10)
        assert (list(page.jobs), page.has_more) == ([], False)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("apart", [timedelta(0), timedelta(microseconds=1)])
def test_pages_neither_repeat_nor_skip_a_job(job_store, new_job, noon, newest_first, apart):
    # As close together as a clock can tell, or closer.
    jobs = [new_job(created_at=noon + number * apart) for number in range(7)]
    for number in (3, 6, 0, 2, 5, 1, 4):
        job_store.admit(jobs[number])
    found = list(pages(job_store, limit=3, newest_first=newest_first))
    assert [len(page.jobs) for page in found] == [3, 3, 1]
    in_order = [job.id for job in (reversed(jobs) if newest_first else jobs)]
    assert [job_id for page in found for job_id in ids(page)] == in_order


def test_a_page_that_holds_all_that_are_left_is_the_last(job_store, new_job):
    for _ in range(6):
        job_store.admit(new_job())
    assert [page.has_more for page in pages(job_store, limit=3)] == [True, False]


def test_a_job_made_between_two_pages_changes_nothing_on_the_second(job_store, new_job):
    jobs = [new_job() for _ in range(4)]
    for job in jobs:
        job_store.admit(job)
    first = job_store.list("ada", kind="video", limit=2)
    job_store.admit(new_job())
    second = job_store.list("ada", kind="video", limit=2, after=first.jobs[-1].id)
    assert ids(second) == [jobs[1].id, jobs[0].id]
    assert not second.has_more


@pytest.mark.parametrize("newest_first", [True, False])
def test_only_jobs_with_one_of_the_statuses_are_on_the_pages(
    job_store, new_job, finish, noon, newest_first
):
    jobs = [new_job() for _ in range(6)]
    for job in jobs:
        job_store.admit(job)
    for job in jobs[::2]:
        job_store.update(job.id, finish)
    job_store.update(jobs[1].id, partial(request_cancel, now=noon))
    both = [JobStatus.FINISHED, JobStatus.CANCELED]
    found = list(pages(job_store, limit=2, newest_first=newest_first, statuses=both))
    expected = [jobs[number].id for number in (0, 1, 2, 4)]
    assert [job_id for page in found for job_id in ids(page)] == (
        expected[::-1] if newest_first else expected
    )
    queued = job_store.list("ada", kind="video", limit=9, statuses=[JobStatus.QUEUED])
    assert ids(queued) == [jobs[5].id, jobs[3].id]
    assert not ids(job_store.list("ada", kind="video", limit=9, statuses=[]))


def test_a_list_goes_on_after_a_job_that_has_another_status_by_now(job_store, new_job, finish):
    jobs = [new_job() for _ in range(3)]
    for job in jobs:
        job_store.admit(job)
    job_store.update(jobs[1].id, finish)
    queued = [JobStatus.QUEUED]
    page = job_store.list("ada", kind="video", limit=9, after=jobs[1].id, statuses=queued)
    assert ids(page) == [jobs[0].id]


def test_what_is_none_of_the_owners_jobs_of_the_kind_is_not_found(job_store, new_job):
    job_store.admit(new_job())
    job_store.admit(theirs := new_job(owner="bob"))
    job_store.admit(picture_job(id="job_p"))
    for after in (theirs.id, "job_p", "job_unknown", "a/b", ""):
        with pytest.raises(JobNotFound):
            job_store.list("ada", kind="video", limit=9, after=after)


# --- who waits before whom


def test_before_a_moment_those_count_that_wait_for_the_model_and_were_made_earlier(
    job_store, new_job, finish, noon
):
    jobs = [new_job(owner=owner) for owner in ("ada", "bob", "ada", "ada", "bob")]
    for job in jobs:
        job_store.admit(job)
    job_store.admit(picture_job(id="job_p", created_at=noon))
    moments = [job.created_at for job in jobs]
    model = jobs[0].request.model
    assert list(job_store.queued_before(model, moments)) == [0, 1, 2, 3, 4]
    job_store.update(jobs[1].id, finish)
    job_store.update(jobs[2].id, partial(request_cancel, now=noon))
    assert list(job_store.queued_before(model, moments[::-1])) == [2, 1, 1, 1, 0]
    assert list(job_store.queued_before("google/nano-banana", [moments[1]])) == [1]
    assert list(job_store.queued_before("veo3", moments[:1])) == [0]


def test_one_moment_or_the_same_twice_is_counted_to_the_microsecond(job_store, new_job, noon):
    for number in (2, 0, 1):
        job_store.admit(new_job(created_at=noon + timedelta(microseconds=number)))
    count = partial(job_store.queued_before, "wan2.1-demo")
    moments = [noon + timedelta(microseconds=number) for number in range(4)]
    assert [count([moment])[0] for moment in moments] == [0, 1, 2, 3]
    assert list(count([moments[1]] * 2)) == [1, 1]
    assert list(count([])) == []
