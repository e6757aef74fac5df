"""The rules of a job: each transition, what it refuses, and the stored form."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared import transitions as rules
from shared.errors import JobAlreadyTerminal, LeaseHeld, LeaseLost
from shared.job import (
    PHASE_SPANS,
    PUBLISH_GRACE,
    REPUBLISH_AFTER,
    UPLOAD_GRACE,
    Artifact,
    Charge,
    ImageMode,
    ImageRequest,
    InputFile,
    Job,
    JobError,
    JobStatus,
    Lease,
    Phase,
    RemoteWork,
    RenderRequest,
    RenderSummary,
    Retention,
    artifact_folder,
    artifact_key,
    from_document,
    hash_request,
    to_document,
)
from shared.schemas import Status
from tests.jobs import IMAGE_REQUEST, NOON, REQUEST, SUMMARY, VIDEO, picture_job, plain_job

LEASE_SECONDS = 30
TOKEN = "t1"
ERROR = JobError(code="backend_unavailable", message="The backend is busy.")


def at(seconds: float) -> datetime:
    """A moment after the job was made."""
    return NOON + timedelta(seconds=seconds)


queued = plain_job


def claim(job: Job, *, token: str = TOKEN, worker: str = "w1", seconds: float = 10) -> Job:
    return rules.claim(
        job, token=token, worker=worker, now=at(seconds), lease_seconds=LEASE_SECONDS
    )


def report(job: Job, phase: Phase, fraction: float, *, token: str = TOKEN, seconds=20) -> Job:
    return rules.report(
        job,
        token=token,
        phase=phase,
        fraction=fraction,
        now=at(seconds),
        lease_seconds=LEASE_SECONDS,
    )


def complete(job: Job, *, token: str = TOKEN, seconds: float = 30) -> Job:
    return rules.complete(job, token=token, artifacts=(VIDEO,), summary=SUMMARY, now=at(seconds))


def ended() -> list[Job]:
    """A job in each terminal state."""
    return [
        complete(claim(queued())),
        rules.fail(claim(queued()), token="t1", error=ERROR, now=at(30)),
        rules.request_cancel(queued(), now=at(30)),
    ]


# Everything only the holder of the lease may do.
FENCED: dict[str, Callable[..., Job]] = {
    "heartbeat": partial(rules.heartbeat, now=at(20), lease_seconds=LEASE_SECONDS),
    "report": partial(
        rules.report, phase=Phase.PLAN, fraction=1, now=at(20), lease_seconds=LEASE_SECONDS
    ),
    "complete": partial(rules.complete, artifacts=(VIDEO,), summary=SUMMARY, now=at(20)),
    "fail": partial(rules.fail, error=ERROR, now=at(20)),
    "retry": partial(rules.retry, error=ERROR, now=at(20)),
    "release": partial(rules.release, now=at(20)),
    "acknowledge_cancel": partial(rules.acknowledge_cancel, now=at(20)),
}
fenced = pytest.mark.parametrize("transition", FENCED.values(), ids=FENCED.keys())


# --- claim


def test_a_claimed_job_is_started_and_its_lease_carries_the_token():
    job = claim(queued())
    assert job.status is JobStatus.STARTED
    assert job.attempt == 1
    assert job.started_at == at(10)
    assert job.lease == Lease(token="t1", worker="w1", claimed_at=at(10), expires_at=at(40))


def test_a_second_claim_finds_the_lease_held():
    with pytest.raises(LeaseHeld):
        claim(claim(queued()), token="t2", seconds=39.999)


def test_a_claim_at_the_moment_the_lease_expires_takes_the_job_over():
    job = claim(claim(queued()), token="t2", worker="w2", seconds=40)
    assert job.lease.token == "t2"
    assert job.attempt == 2
    assert job.started_at == at(10)


def test_a_job_taken_over_starts_again_from_nothing():
    halfway = report(claim(queued()), Phase.GENERATION, 0.5)
    job = claim(halfway, token="t2", seconds=100)
    assert (job.status, job.phase, job.progress) == (JobStatus.STARTED, None, 0)


def test_a_claim_of_a_job_whose_last_attempt_fell_silent_fails_it():
    job = claim(queued(max_attempts=1, error=ERROR))
    job = claim(job, token="t2", seconds=100)
    assert job.status is JobStatus.FAILED
    assert job.lease is None
    assert job.error.code == "worker_lost"
    assert job.finished_at == at(100)


def test_a_claim_of_a_silent_job_that_was_to_be_canceled_cancels_it():
    asked = rules.request_cancel(claim(queued()), now=at(15))
    job = claim(asked, token="t2", seconds=100)
    assert job.status is JobStatus.CANCELED
    assert job.lease is None


# --- the fence


@fenced
def test_a_wrong_token_has_lost_the_lease(transition):
    with pytest.raises(LeaseLost):
        transition(claim(queued()), token="t2")


@fenced
def test_a_worker_that_was_replaced_has_lost_the_lease(transition):
    taken_over = claim(claim(queued()), token="t2", seconds=50)
    with pytest.raises(LeaseLost):
        transition(taken_over, token="t1")


@fenced
def test_a_job_nobody_holds_has_no_lease_to_use(transition):
    with pytest.raises(LeaseLost):
        transition(queued(), token="t1")


@fenced
def test_an_ended_job_has_no_lease_to_use(transition):
    for job in ended():
        with pytest.raises(LeaseLost):
            transition(job, token="t1")


@fenced
def test_an_expired_lease_still_counts_while_nobody_took_the_job(transition):
    job = claim(queued(), seconds=-1000)
    transition(job, token="t1")


def test_a_heartbeat_renews_the_lease_and_nothing_else():
    job = claim(queued())
    renewed = rules.heartbeat(job, token="t1", now=at(25), lease_seconds=LEASE_SECONDS)
    assert renewed == replace(job, lease=replace(job.lease, expires_at=at(55)))


# --- progress


def test_a_report_says_how_far_the_whole_job_is_and_renews_the_lease():
    job = report(claim(queued()), Phase.GENERATION, 0.5)
    assert (job.status, job.phase, job.progress) == (JobStatus.PROGRESS, Phase.GENERATION, 45)
    assert job.lease.expires_at == at(50)


def test_a_report_that_lags_behind_renews_the_lease_and_leaves_the_progress():
    job = report(claim(queued()), Phase.STITCH, 0)
    late = report(job, Phase.GENERATION, 0.5, seconds=25)
    assert (late.phase, late.progress) == (Phase.STITCH, 85)
    assert late.lease.expires_at == at(55)


@pytest.mark.parametrize(("fraction", "percent"), [(-1, 5), (0, 5), (1, 85), (2, 85)])
def test_a_fraction_outside_its_phase_stays_inside_it(fraction, percent):
    assert report(claim(queued()), Phase.GENERATION, fraction).progress == percent


reports = st.tuples(st.sampled_from(Phase), st.floats(-1, 2))


@given(st.lists(reports, max_size=20))
def test_progress_never_goes_back_and_is_whole_only_when_finished(told):
    job = claim(queued())
    for phase, fraction in told:
        later = report(job, phase, fraction)
        assert job.progress <= later.progress < 100
        job = later
    assert complete(job).progress == 100


def test_the_phases_follow_each_other_without_gaps_in_the_order_of_the_work():
    assert list(PHASE_SPANS) == list(Phase)
    spans = list(PHASE_SPANS.values())
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert all(start < end for start, end in spans)
    assert spans[0][0] == 0
    assert spans[-1][1] == 99  # 100 is a stored result


# --- the ways to end


def test_a_completed_job_is_finished_with_its_artifacts():
    job = complete(report(claim(queued()), Phase.UPLOAD, 0.5))
    assert job.status is JobStatus.FINISHED
    assert (job.progress, job.phase, job.lease, job.error) == (100, None, None, None)
    assert job.finished_at == at(30)
    assert job.artifact("video") == VIDEO
    assert job.artifact("poster") is None
    assert job.summary == SUMMARY


def test_a_job_that_succeeds_after_a_retry_has_no_error_left():
    job = rules.retry(claim(queued()), token="t1", error=ERROR, now=at(20))
    assert complete(claim(job)).error is None


def test_a_result_stored_before_the_cancel_was_seen_counts():
    asked = rules.request_cancel(claim(queued()), now=at(15))
    assert complete(asked).status is JobStatus.FINISHED


def test_a_failed_job_says_why():
    job = rules.fail(claim(queued()), token="t1", error=ERROR, now=at(20))
    assert (job.status, job.error, job.finished_at) == (JobStatus.FAILED, ERROR, at(20))
    assert job.lease is None


def test_a_retried_job_is_queued_again_and_keeps_its_attempt():
    job = rules.retry(report(claim(queued()), Phase.STITCH, 1), token="t1", error=ERROR, now=at(20))
    assert (job.status, job.attempt, job.progress) == (JobStatus.QUEUED, 1, 0)
    assert (job.lease, job.phase, job.finished_at) == (None, None, None)
    assert job.error == ERROR


def test_a_job_fails_once_its_attempts_are_used_up():
    job, seen = queued(max_attempts=3), []
    while not job.status.is_terminal:
        job = rules.retry(claim(job), token="t1", error=ERROR, now=at(20))
        seen.append(job.status)
    assert seen == [JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.FAILED]
    assert job.error == ERROR


def test_a_released_job_costs_no_attempt():
    job = queued(max_attempts=1)
    for _ in range(5):
        job = rules.release(claim(job), token="t1", now=at(20))
        assert (job.status, job.attempt, job.lease) == (JobStatus.QUEUED, 0, None)


@pytest.mark.parametrize(
    "give_back",
    [
        partial(rules.release, token="t1", now=at(20)),
        partial(rules.retry, token="t1", error=ERROR, now=at(20)),
        partial(rules.requeue_expired, now=at(1000)),
    ],
    ids=["release", "retry", "requeue_expired"],
)
def test_a_job_to_be_canceled_is_not_queued_again(give_back):
    asked = rules.request_cancel(claim(queued()), now=at(15))
    assert give_back(asked).status is JobStatus.CANCELED


# --- cancel


def test_a_queued_job_is_canceled_at_once():
    job = rules.request_cancel(queued(), now=at(5))
    assert (job.status, job.finished_at) == (JobStatus.CANCELED, at(5))


def test_a_running_job_is_asked_to_stop_and_runs_until_it_does():
    job = rules.request_cancel(claim(queued()), now=at(15))
    assert (job.status, job.cancel_requested_at) == (JobStatus.STARTED, at(15))
    stopped = rules.acknowledge_cancel(job, token="t1", now=at(20))
    assert (stopped.status, stopped.finished_at) == (JobStatus.CANCELED, at(20))
    assert (stopped.lease, stopped.error) == (None, None)


def test_a_second_cancel_changes_nothing():
    job = rules.request_cancel(claim(queued()), now=at(15))
    assert rules.request_cancel(job, now=at(16)) == job


def test_a_cancel_of_a_job_with_an_expired_lease_ends_it_at_once():
    job = rules.request_cancel(claim(queued()), now=at(40))
    assert job.status is JobStatus.CANCELED
    assert job.lease is None


def test_a_deleted_job_ends_as_a_canceled_one_does_and_stays_hidden():
    assert rules.hide(queued(), now=at(5)).status is JobStatus.CANCELED
    asked = rules.hide(claim(queued()), now=at(15))
    assert (asked.status, asked.cancel_requested_at) == (JobStatus.STARTED, at(15))
    stopped = rules.acknowledge_cancel(asked, token="t1", now=at(20))
    assert (stopped.status, stopped.hidden_at) == (JobStatus.CANCELED, at(15))
    assert rules.hide(stopped, now=at(30)).hidden_at == at(15)


def test_the_files_of_a_deleted_job_are_removed_soon_whenever_they_came():
    finished = rules.hide(complete(claim(queued())), now=at(50))
    too_late = complete(rules.hide(claim(queued()), now=at(15)))
    for job in (finished, too_late):
        assert (job.status, job.artifacts, job.leftovers) == (JobStatus.FINISHED, (VIDEO,), True)
        assert job.due_at == job.finished_at + UPLOAD_GRACE
        kept = rules.leftovers_removed(job)
        assert kept.due_at == kept.finished_at + timedelta(seconds=kept.retention.job_seconds)


# --- what the sweep does


def test_a_job_of_a_silent_worker_goes_back_to_the_queue_and_is_to_be_published():
    job = claim(rules.mark_published(queued(), now=at(1)))
    job = rules.requeue_expired(job, now=at(40))
    assert (job.status, job.lease, job.published_at) == (JobStatus.QUEUED, None, None)
    assert job.error.code == "worker_lost"
    assert job.due_at <= at(40)


def test_a_job_of_a_silent_worker_fails_without_attempts_left():
    job = rules.requeue_expired(claim(queued(max_attempts=1)), now=at(40))
    assert (job.status, job.error.code) == (JobStatus.FAILED, "worker_lost")


def test_a_job_of_a_worker_that_died_is_taken_back_at_once():
    job = rules.end_lease(claim(queued()), worker="w1", now=at(11))
    assert job.due_at <= at(11)
    assert rules.requeue_expired(job, now=at(11)).status is JobStatus.QUEUED


def test_the_death_of_a_worker_changes_nothing_for_a_job_that_another_has_or_nobody():
    for job in (claim(queued()), queued(), complete(claim(queued()))):
        assert rules.end_lease(job, worker="another", now=at(11)) == job
    silent = claim(queued())
    assert rules.end_lease(silent, worker="w1", now=at(60)) == silent  # its lease is over anyway


def test_a_live_lease_and_a_queued_job_are_left_alone():
    for job in (claim(queued()), queued()):
        assert rules.requeue_expired(job, now=at(39)) == job


def test_a_dead_letter_fails_a_queued_job():
    job = rules.dead_letter(queued(), now=at(40))
    assert (job.status, job.error.code) == (JobStatus.FAILED, "undeliverable")


def test_a_dead_letter_leaves_the_reason_of_the_last_attempt():
    tried = rules.retry(claim(queued()), token="t1", error=ERROR, now=at(20))
    assert rules.dead_letter(tried, now=at(40)).error == ERROR


def test_a_dead_letter_fails_a_job_with_an_expired_lease():
    assert rules.dead_letter(claim(queued()), now=at(40)).status is JobStatus.FAILED


def test_a_dead_letter_of_a_job_that_was_to_be_canceled_cancels_it():
    asked = rules.request_cancel(claim(queued()), now=at(15))
    job = rules.dead_letter(asked, now=at(40))
    assert (job.status, job.error) == (JobStatus.CANCELED, None)


def test_a_dead_letter_leaves_a_job_in_work_alone():
    job = claim(queued())
    assert rules.dead_letter(job, now=at(39)) == job


def test_an_expired_job_names_its_files_until_they_are_removed_and_is_remembered():
    job = rules.expire_artifacts(complete(claim(queued())), now=at(200))
    assert (job.status, job.artifacts, job.leftovers) == (JobStatus.FINISHED, (VIDEO,), True)
    removed = rules.leftovers_removed(job)
    assert (removed.status, removed.artifacts, removed.leftovers) == (JobStatus.FINISHED, (), False)
    assert removed.artifacts_expired_at == at(200)
    assert removed.summary == SUMMARY


def test_both_steps_of_an_expiry_may_be_repeated():
    expired = rules.expire_artifacts(complete(claim(queued())), now=at(200))
    assert rules.expire_artifacts(expired, now=at(300)) == expired
    removed = rules.leftovers_removed(expired)
    assert rules.leftovers_removed(removed) == removed
    assert rules.expire_artifacts(removed, now=at(300)) == removed


def test_the_files_of_a_result_are_no_leftovers():
    job = complete(claim(claim(queued()), token="t2", seconds=41), token="t2", seconds=50)
    assert not job.leftovers
    assert rules.leftovers_removed(job) == job


@pytest.mark.parametrize(
    "end",
    [
        partial(rules.fail, token=TOKEN, error=ERROR, now=at(30)),
        partial(rules.acknowledge_cancel, token=TOKEN, now=at(30)),
        lambda job: rules.release(rules.request_cancel(job, now=at(20)), token=TOKEN, now=at(30)),
        lambda job: rules.request_cancel(rules.release(job, token=TOKEN, now=at(20)), now=at(30)),
        lambda job: rules.dead_letter(rules.release(job, token=TOKEN, now=at(20)), now=at(30)),
        lambda job: rules.requeue_expired(replace(job, attempt=3), now=at(40)),
        lambda job: claim(replace(job, attempt=3), token="t2", seconds=40),
    ],
)
def test_a_job_that_was_tried_and_ends_without_a_result_may_leave_files(end):
    job = end(claim(queued()))
    assert job.status in (JobStatus.FAILED, JobStatus.CANCELED)
    assert job.leftovers


def test_a_job_nobody_tried_leaves_no_files():
    assert not rules.request_cancel(queued(), now=at(30)).leftovers
    assert not rules.dead_letter(queued(), now=at(30)).leftovers


def test_a_finished_jobs_files_expire_at_one_moment_whether_or_not_the_sweep_has_come_by():
    job = complete(claim(queued()), seconds=30)
    assert job.artifacts_expire_at == at(130)
    assert not job.has_expired_artifacts(at(129))
    assert job.has_expired_artifacts(at(130))
    swept = rules.leftovers_removed(rules.expire_artifacts(job, now=at(130)))
    assert swept.has_expired_artifacts(at(129))  # by another machine's clock
    _, failed, canceled = ended()
    for other in (queued(), claim(queued()), failed, canceled):
        assert other.artifacts_expire_at is None
        assert not other.has_expired_artifacts(at(10**6))


def test_an_ended_job_absorbs_everything():
    for job in ended():
        assert rules.mark_published(job, now=at(99)) == job
        assert rules.requeue_expired(job, now=at(99)) == job
        assert rules.dead_letter(job, now=at(99)) == job
        with pytest.raises(JobAlreadyTerminal) as caught:
            claim(job, token="t2", seconds=99)
        assert caught.value.status == job.status
        with pytest.raises(JobAlreadyTerminal):
            rules.request_cancel(job, now=at(99))


# --- when the sweep must look


def test_an_unpublished_job_is_due_soon_and_a_published_one_much_later():
    assert queued().due_at == NOON + PUBLISH_GRACE
    published = rules.mark_published(queued(), now=at(1))
    assert published.due_at == at(1) + REPUBLISH_AFTER


def test_a_job_in_work_is_due_when_its_lease_expires():
    job = claim(rules.mark_published(queued(), now=at(1)))
    assert job.due_at == job.lease.expires_at == at(40)


def test_a_finished_job_is_due_when_its_artifacts_and_then_when_it_is_past_retention():
    job = complete(claim(queued()))
    assert job.due_at == at(30) + timedelta(seconds=100)
    expired = rules.expire_artifacts(job, now=at(200))
    assert expired.due_at == job.due_at  # still: its files are to be removed
    assert rules.leftovers_removed(expired).due_at == at(30) + timedelta(seconds=1000)


def test_a_job_that_was_never_tried_is_due_when_it_is_past_retention():
    canceled = rules.request_cancel(queued(), now=at(30))
    assert canceled.due_at == at(30) + timedelta(seconds=1000)


def test_a_job_with_leftovers_is_due_once_no_upload_can_be_under_way_and_then_past_retention():
    failed = rules.fail(claim(queued()), token=TOKEN, error=ERROR, now=at(30))
    assert failed.due_at == at(30) + UPLOAD_GRACE
    assert rules.leftovers_removed(failed).due_at == at(30) + timedelta(seconds=1000)


# --- the stored form


texts = st.text(st.characters(codec="utf-8"), max_size=30)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone itself
kept_seconds = st.integers(
    24 * 3600, 36_500 * 24 * 3600
)  # as short and as long as the configuration allows
image_requests = st.builds(
    ImageRequest,
    prompt=texts,
    model=texts,
    mode=st.sampled_from(ImageMode),
    aspect_ratio=st.none() | texts,
    inputs=st.lists(st.builds(InputFile, key=texts), max_size=2).map(tuple),
)
jobs = st.builds(
    Job,
    id=texts,
    owner=texts,
    request=st.builds(RenderRequest, prompt=texts, model=texts, seed=st.integers(0, 2**63 - 1))
    | image_requests,
    created_at=moments,
    retention=st.builds(Retention, artifact_seconds=kept_seconds, job_seconds=kept_seconds),
    idempotency_key=st.none() | texts,
    traceparent=st.none() | texts,
    status=st.sampled_from(JobStatus),
    phase=st.none() | st.sampled_from(Phase),
    lease=st.none() | st.builds(Lease, claimed_at=moments, expires_at=moments),
    published_at=st.none() | moments,
    started_at=st.none() | moments,
    finished_at=st.none() | moments,
    cancel_requested_at=st.none() | moments,
    artifacts=st.lists(st.builds(Artifact, key=texts), max_size=3).map(tuple),
    artifacts_expired_at=st.none() | moments,
    leftovers=st.booleans(),
    summary=st.none()
    | st.builds(
        RenderSummary,
        generation_seconds=st.floats(0, 1e6),
        phase_seconds=st.dictionaries(texts, st.floats(0, 1e6), max_size=5),
    ),
    error=st.none() | st.builds(JobError, message=texts),
    remote=st.none()
    | st.builds(
        RemoteWork,
        gives_up_at=moments,
        prediction_id=st.none() | texts,
        heard_at=st.none() | moments,
        ran=st.booleans(),
    ),
    charge=st.none() | st.builds(Charge, given_back_at=st.none() | moments),
)


@given(jobs)
def test_a_stored_job_reads_back_as_it_was(job):
    back = from_document(to_document(job))
    assert back == job
    assert back.due_at == job.due_at
    assert back.created_at.utcoffset() == timedelta(0)


def test_a_field_a_newer_version_stored_is_ignored():
    document = to_document(queued()).removesuffix("}") + ',"mood":"sunny"}'
    assert from_document(document) == queued()


def test_a_video_stored_before_there_were_pictures_reads_back_as_it_was():
    fields = json.loads(to_document(queued()))
    assert "kind" not in fields["request"]
    for field in ("remote", "charge"):
        del fields[field]
    assert from_document(json.dumps(fields)) == queued()


def test_the_kind_tells_a_picture_from_a_video_whatever_fields_a_newer_version_added():
    for job, other in ((queued(), asdict(IMAGE_REQUEST)), (picture_job(), asdict(REQUEST))):
        fields = json.loads(to_document(job))
        fields["request"] = {**other, "kind": "video", "mood": "sunny", **fields["request"]}
        assert from_document(json.dumps(fields)) == job
    # Not even if it could be read as the other: it would be made as that.
    fields = json.loads(to_document(queued()))
    fields["request"] |= {"mode": "edit", "aspect_ratio": None, "inputs": []}
    with pytest.raises(ValidationError):
        from_document(json.dumps(fields))


def test_a_job_stored_before_there_were_leftovers_has_none():
    fields = json.loads(to_document(queued()))
    del fields["leftovers"]
    assert from_document(json.dumps(fields)) == queued()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(texts, json_values, max_size=5))
def test_the_order_of_a_requests_fields_does_not_change_its_hash(body):
    assert hash_request(body) == hash_request(dict(reversed(body.items())))


def test_another_request_has_another_hash():
    bodies = [
        {},
        {"prompt": "a"},
        {"prompt": "b"},
        {"prompt": "a", "duration": 5},
        {"prompt": "a", "duration": "5"},
        {"prompt": ["a"]},
        {"prompt": "\ud800"},
    ]
    assert len({hash_request(body) for body in bodies}) == len(bodies)


def test_every_attempt_of_a_job_stores_its_file_under_the_same_name():
    job = queued()
    key = artifact_key(job, prefix="videos", name="final_video.mp4")
    assert key == "videos/2026-01/job_1/final_video.mp4"
    again = claim(claim(job), token="t2", seconds=10**7)
    assert artifact_key(again, prefix="videos", name="final_video.mp4") == key
    assert artifact_folder(again, prefix="videos") == "videos/2026-01/job_1"


def test_clients_are_told_of_exactly_the_statuses_there_are():
    assert set(get_args(Status)) == set(JobStatus)
