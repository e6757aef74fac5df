"""What is kept after a job has ended, for how long, and that nothing else stays."""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from shared.errors import ArtifactStoreUnavailable, JobNotFound, PromptRefused
from shared.job import UPLOAD_GRACE, Job, JobStatus, artifact_key
from shared.lifecycle import Lifecycle
from shared.submission import Submission
from shared.sweep import SweepReport
from tests.unit.api_under_test import PROMPT, ApiUnderTest, running_api

DAY_SECONDS = 24 * 3600
GRACE_SECONDS = UPLOAD_GRACE.total_seconds()


@pytest.fixture
def api(tmp_path) -> Iterator[ApiUnderTest]:
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def files(api) -> Callable[[], list[str]]:
    """The keys of all that is stored."""
    bucket = api.wiring.config.data_dir / "artifacts" / "promptreel"

    def look() -> list[str]:
        return sorted(str(file.relative_to(bucket)) for file in bucket.rglob("*") if file.is_file())

    return look


@pytest.fixture
def upload(api, tmp_path) -> Callable[..., str]:
    """What an attempt stores that no job will name; its key."""

    return partial(store_file, api, tmp_path)


def store_file(api: ApiUnderTest, folder: Path, job: Job, *, name: str = "final_video.mp4") -> str:
    file = folder / "clip"
    file.write_bytes(b"a clip")
    key = artifact_key(job, prefix="videos", name=name)
    return api.wiring.artifacts.put(key, file, content_type="video/mp4").key


def submit(api: ApiUnderTest, **fields: object) -> Job:
    plain = Submission(owner="ada", prompt=PROMPT, request_id="req_1", body={"prompt": PROMPT})
    return api.wiring.lifecycle.submit(replace(plain, **fields))


def sweep(api: ApiUnderTest) -> SweepReport:
    return api.wiring.lifecycle.sweep()


def configured(api: ApiUnderTest, section: str, **keys: object) -> Lifecycle:
    """The same life under another configuration."""
    config = api.wiring.config
    changed = getattr(config, section).model_copy(update=keys)
    return replace(api.wiring.lifecycle, config=config.model_copy(update={section: changed}))


# --- for how long


def test_files_go_before_their_job_and_a_younger_job_keeps_both(api, files):
    old = api.finished()
    api.clock.advance(DAY_SECONDS)
    young = api.finished()
    assert len(files()) == 6

    api.clock.advance(6 * DAY_SECONDS)
    assert sweep(api) == SweepReport(expired=1)
    assert len(files()) == 3
    assert all(young in key for key in files())
    assert api.wiring.store.get(old).status is JobStatus.FINISHED

    api.clock.advance(23 * DAY_SECONDS)
    assert sweep(api) == SweepReport(expired=1, forgotten=1)
    assert files() == []
    with pytest.raises(JobNotFound):
        api.wiring.store.get(old)
    assert api.wiring.store.get(young).status is JobStatus.FINISHED


def test_a_job_is_kept_as_long_as_was_configured_when_it_was_submitted(api):
    before = api.finished()
    after_change = configured(api, "retention", artifact_days=1, job_days=2)
    wiring = replace(api.wiring, lifecycle=after_change)
    after = submit(replace(api, wiring=wiring)).id
    api.worker.render_next()

    api.clock.advance(DAY_SECONDS)
    assert after_change.sweep() == SweepReport(expired=1)
    api.clock.advance(DAY_SECONDS)
    assert after_change.sweep() == SweepReport(forgotten=1)
    with pytest.raises(JobNotFound):
        api.wiring.store.get(after)
    assert api.wiring.store.get(before).artifacts
    api.clock.advance(5 * DAY_SECONDS)
    assert after_change.sweep() == SweepReport(expired=1)


def test_a_forgotten_jobs_log_and_key_go_with_it(api):
    job = submit(api, idempotency_key="order-17")
    api.worker.render_next()
    api.wiring.store.append_log(job.id, ["rendered"], now=api.clock.now)
    api.clock.advance(30 * DAY_SECONDS - 1)
    sweep(api)
    assert submit(api, idempotency_key="order-17").id == job.id
    assert len(api.wiring.store.tail_log(job.id, tail=10)) == 1

    api.clock.advance(1)
    assert sweep(api) == SweepReport(forgotten=1)
    assert submit(api, idempotency_key="order-17").id != job.id
    assert list(api.wiring.store.tail_log(job.id, tail=10)) == []


# --- what is nobody's result


def test_what_a_failed_job_left_goes_once_no_upload_can_be_under_way(api, files, upload):
    job = submit(api)
    upload(job)
    api.worker.fail_next(PromptRefused("The model refused the prompt."))
    api.clock.advance(GRACE_SECONDS - 1)
    late = upload(job, name="poster.jpg")
    assert not sweep(api)
    assert late in files()

    api.clock.advance(1)
    assert sweep(api) == SweepReport(tidied=1)
    assert files() == []
    assert not sweep(api)
    assert api.wiring.store.get(job.id).error.code == "prompt_refused"


def test_what_a_canceled_job_left_goes_and_other_jobs_keep_theirs(api, files, upload):
    finished = api.finished()
    kept = files()
    job = submit(api)
    upload(job)
    api.worker.cancel_next()
    api.clock.advance(GRACE_SECONDS)
    assert sweep(api) == SweepReport(tidied=1)
    assert files() == kept
    assert api.client.get(f"/v1/jobs/{finished}/artifact").status_code == 200


def test_a_killed_workers_upload_becomes_the_next_attempts_result(api, files, upload):
    job = submit(api)
    api.worker.claim_next()
    upload(job)
    api.clock.advance(api.wiring.config.worker.lease_seconds)
    sweep(api)
    api.clock.advance(GRACE_SECONDS)
    assert not sweep(api)
    api.worker.render_next()
    api.clock.advance(GRACE_SECONDS)
    assert not sweep(api)
    assert len(files()) == 3


def test_what_is_uploaded_after_all_that_goes_with_the_job(api, files, upload):
    job = submit(api)
    api.worker.fail_next(PromptRefused("The model refused the prompt."))
    api.clock.advance(GRACE_SECONDS)
    sweep(api)
    upload(job)
    api.clock.advance(30 * DAY_SECONDS)
    assert sweep(api) == SweepReport(forgotten=1)
    assert files() == []


def test_files_stored_under_an_earlier_prefix_expire_too(api, files):
    api.finished()
    api.clock.advance(7 * DAY_SECONDS)
    assert configured(api, "artifacts", prefix="clips").sweep() == SweepReport(expired=1)
    assert files() == []


# --- a sweep in trouble


class Killed(BaseException):
    """The process is gone: nothing after this line runs."""


class Interrupted:
    """A port that something happens to, before or after one of its calls that change anything."""

    CHANGES = ("update", "delete", "delete_all")

    def __init__(self, port: object, event: Callable[[], None]) -> None:
        self._port = port
        self._event = event

    def __getattr__(self, name: str):
        call = getattr(self._port, name)
        if name not in self.CHANGES:
            return call

        def interrupted(*arguments: object):
            self._event()
            result = call(*arguments)
            self._event()
            return result

        return interrupted


class At:
    """Does something at the n-th moment, and remembers whether there was one."""

    def __init__(self, moment: int, do: Callable[[], None]) -> None:
        self._left = moment
        self._do = do
        self.happened = False

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.happened = True
            self._do()


def die() -> None:
    raise Killed


def interrupted(lifecycle: Lifecycle, event: Callable[[], None]) -> Lifecycle:
    return replace(
        lifecycle,
        store=Interrupted(lifecycle.store, event),
        artifacts=Interrupted(lifecycle.artifacts, event),
    )


@dataclass(frozen=True, kw_only=True)
class Doomed:
    """An installation with a job for each thing a sweep does to ended jobs."""

    api: ApiUnderTest
    expired: str
    tidied: str
    forgotten: str

    @property
    def lifecycle(self) -> Lifecycle:
        return self.api.wiring.lifecycle

    def files_of(self, job_id: str) -> list[Path]:
        bucket = self.api.wiring.config.data_dir / "artifacts" / "promptreel"
        return [file for file in bucket.rglob("*") if file.is_file() and job_id in str(file)]

    def assert_nothing_is_lost(self) -> None:
        """Who is promised a file finds it; what no job promises is still due to be removed."""
        for job_id in (self.expired, self.tidied, self.forgotten):
            left = self.files_of(job_id)
            try:
                job = self.api.wiring.store.get(job_id)
            except JobNotFound:
                assert left == []
                continue
            if job.artifacts_expired_at is None:
                assert len(left) >= len(job.artifacts)
            assert not left or job.due_at <= self.api.clock.now

    def assert_swept(self) -> None:
        store = self.api.wiring.store
        expired, tidied = store.get(self.expired), store.get(self.tidied)
        assert (expired.status, expired.artifacts) == (JobStatus.FINISHED, ())
        assert expired.artifacts_expired_at is not None
        assert tidied.status is JobStatus.FAILED
        assert not expired.leftovers
        assert not tidied.leftovers
        with pytest.raises(JobNotFound):
            store.get(self.forgotten)
        for job_id in (self.expired, self.tidied, self.forgotten):
            assert self.files_of(job_id) == []
        assert not self.lifecycle.sweep()


@contextmanager
def doomed(folder: Path) -> Iterator[Doomed]:
    folder.mkdir()
    with running_api(folder) as api:
        forgotten = submit(api)
        api.worker.fail_next(PromptRefused("The model refused the prompt."))
        api.clock.advance(GRACE_SECONDS)
        sweep(api)
        store_file(api, folder, forgotten)  # very late
        api.clock.advance(23 * DAY_SECONDS)
        expired = api.finished()
        api.clock.advance(7 * DAY_SECONDS - GRACE_SECONDS)
        tidied = submit(api)
        store_file(api, folder, tidied)
        api.worker.fail_next(PromptRefused("The model refused the prompt."))
        api.clock.advance(GRACE_SECONDS)
        yield Doomed(api=api, expired=expired, tidied=tidied.id, forgotten=forgotten.id)


def test_a_sweep_killed_at_any_moment_loses_nothing_and_the_next_one_mends_it(tmp_path):
    for moment in count(1):
        at = At(moment, die)
        with doomed(tmp_path / str(moment)) as house:
            with suppress(Killed):
                interrupted(house.lifecycle, at).sweep()
            house.assert_nothing_is_lost()
            house.lifecycle.sweep()
            house.assert_swept()
        if not at.happened:
            break
    assert moment == 21  # 10 changes, before and after each


def test_a_second_sweep_at_any_moment_of_the_first_does_no_harm(tmp_path):
    for moment in count(1):
        with doomed(tmp_path / str(moment)) as house:
            at = At(moment, house.lifecycle.sweep)
            interrupted(house.lifecycle, at).sweep()
            house.assert_swept()
        if not at.happened:
            break
    assert moment > 1


def test_two_sweeps_at_once_leave_nothing(api, files):
    jobs = [api.finished() for _ in range(10)]
    api.clock.advance(7 * DAY_SECONDS)
    with ThreadPoolExecutor(2) as threads:
        for sweeping in [threads.submit(sweep, api) for _ in range(2)]:
            sweeping.result(timeout=60)
    assert files() == []
    assert not any(api.wiring.store.get(job_id).leftovers for job_id in jobs)


class Bucket:
    """An artifact store where some files cannot be removed, and every attempt takes a while."""

    def __init__(self, api: ApiUnderTest, *, stuck: Collection[str], seconds: float = 0) -> None:
        self._clock = api.clock
        self._artifacts = api.wiring.artifacts
        self._stuck = stuck
        self._seconds = seconds
        self.asked = 0

    def delete(self, key: str) -> None:
        self._artifacts.delete(key)

    def delete_all(self, folder: str) -> None:
        self.asked += 1
        self._clock.advance(self._seconds)
        if folder.rpartition("/")[2] in self._stuck:
            raise ArtifactStoreUnavailable("the files cannot be removed (HTTP 403)")
        self._artifacts.delete_all(folder)


def failed_jobs(api: ApiUnderTest, number: int) -> list[str]:
    ids = [submit(api).id for _ in range(number)]
    for _ in ids:
        api.worker.fail_next(PromptRefused("The model refused the prompt."))
    return ids


def test_many_jobs_that_cannot_be_swept_do_not_keep_the_others_waiting(api):
    stuck = failed_jobs(api, 150)
    api.clock.advance(GRACE_SECONDS)
    other, *_ = failed_jobs(api, 1)
    api.clock.advance(GRACE_SECONDS)
    lifecycle = replace(api.wiring.lifecycle, artifacts=Bucket(api, stuck=stuck))
    assert lifecycle.sweep() == SweepReport(tidied=1)
    assert not api.wiring.store.get(other).leftovers
    assert sweep(api) == SweepReport(tidied=150)


def test_a_bucket_that_does_not_answer_keeps_no_silent_workers_job_waiting(api):
    stuck = failed_jobs(api, 5)
    api.clock.advance(GRACE_SECONDS)
    submit(api)
    waiting = api.worker.claim_next()
    api.clock.advance(api.wiring.config.worker.lease_seconds)  # due after all the others
    bucket = Bucket(api, stuck=stuck, seconds=40)
    report = replace(api.wiring.lifecycle, artifacts=bucket).sweep()
    assert report == SweepReport(requeued=1)
    assert api.wiring.store.get(waiting.id).status is JobStatus.QUEUED
    assert bucket.asked == 2  # and the rest another time
    assert sweep(api) == SweepReport(tidied=5)
