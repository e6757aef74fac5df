"""The rules of a picture's job: pure functions, one moment after the other."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import JobAlreadyTerminal, JobNotTerminal, LeaseHeld, LeaseLost
from shared.images import transitions as rules
from shared.images.provider import Prediction, PredictionStatus
from shared.job import REMOTE_SILENCE, UPLOAD_GRACE, ImageMode, JobError, JobStatus
from shared.transitions import complete
from tests.jobs import IMAGE_REQUEST, NOON, VIDEO, picture_job

LATER = NOON + timedelta(seconds=30)
WHY = JobError(code="backend_unavailable", message="It does not answer.")


def said(status, *, ran=True, name="pr1", **fields):
    return Prediction(id=name, status=PredictionStatus(status), ran=ran, **fields)


def heard(job, status, *, now=LATER, **fields):
    return rules.heard_of(job, prediction=said(status, **fields), now=now)


def taken(job, *, token="t", now=LATER, lease_seconds=60, **fields):  # noqa: S107 - a claim token
    return rules.take(
        job,
        prediction=said("succeeded", **fields),
        token=token,
        holder="images",
        now=now,
        lease_seconds=lease_seconds,
    )


@pytest.fixture
def job():
    return picture_job(request=replace(IMAGE_REQUEST, mode=ImageMode.GENERATE, inputs=()))


def is_given_back(job):
    return job.charge.given_back_at is not None


def test_an_accepted_order_is_known_by_the_providers_name(job):
    accepted = heard(job, "starting", ran=False)
    assert accepted.remote.prediction_id == "pr1"
    assert accepted.status is JobStatus.QUEUED
    assert not accepted.remote.ran


def test_a_running_order_has_started(job):
    running = heard(job, "processing")
    assert running.status is JobStatus.STARTED
    assert running.started_at == LATER
    assert heard(running, "processing", now=LATER + timedelta(seconds=1)).started_at == LATER


def test_what_comes_late_does_not_take_it_back(job):
    running = heard(job, "processing")
    late = heard(running, "starting", ran=False)
    assert late.status is JobStatus.STARTED
    assert late.remote.ran


def test_what_is_said_of_another_order_changes_nothing(job):
    ours = heard(job, "processing")
    assert heard(ours, "failed", name="pr2") == ours
    with pytest.raises(LeaseHeld):
        taken(ours, name="pr2")


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_an_order_that_ended_at_the_provider_has_ended(job, end):
    ended = heard(job, end)
    assert ended.status == end
    assert ended.finished_at == LATER
    assert not is_given_back(ended)


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_an_order_that_never_ran_is_given_back(job, end):
    assert is_given_back(heard(job, end, ran=False))


def test_a_refusal_says_what_to_do_and_a_failure_does_not_tell_of_the_provider(job):
    assert heard(job, "failed", refused=True).error.code == "prompt_refused"
    assert heard(job, "failed").error == JobError(
        code="provider_failed", message="The provider failed. Submit it again."
    )


@pytest.mark.parametrize("word", ["starting", "processing", "failed", "canceled"])
def test_a_job_that_has_ended_hears_nothing(job, word):
    ended = heard(job, "failed")
    assert heard(ended, word, now=LATER + timedelta(hours=1)) == ended


def test_a_job_canceled_while_it_was_ordered_learns_its_name_so_that_it_can_be_stopped(job):
    canceled = rules.cancel(job, now=NOON)
    known = heard(canceled, "starting", ran=False)
    assert known == replace(canceled, remote=replace(canceled.remote, prediction_id="pr1"))


def test_one_brings_the_pictures_home_while_others_leave_it_to_it(job):
    first = taken(job)
    assert first.lease.token == "t"
    assert first.status is JobStatus.PROGRESS
    with pytest.raises(LeaseHeld):
        taken(first, token="u")
    done = complete(first, token="t", artifacts=(VIDEO,), summary=None, now=LATER)
    assert done.status is JobStatus.FINISHED
    with pytest.raises(JobAlreadyTerminal):
        taken(done, token="u")


def test_another_one_takes_over_from_one_that_is_gone(job):
    first = taken(job)
    second = taken(first, token="u", now=LATER + timedelta(seconds=60))
    assert second.attempt == 2
    with pytest.raises(LeaseLost):
        complete(second, token="t", artifacts=(VIDEO,), summary=None, now=LATER)


def test_pictures_that_cannot_be_brought_home_are_tried_so_often_and_no_more(job):
    for attempt in (1, 2):
        job = taken(job)
        assert job.attempt == attempt
        job = rules.put_back(job, token="t", error=WHY, now=LATER)
        assert (job.status, job.lease) == (JobStatus.STARTED, None)
    failed = rules.put_back(taken(job), token="t", error=WHY, now=LATER)
    assert (failed.status, failed.error) == (JobStatus.FAILED, WHY)
    assert not is_given_back(failed), "it ran"


def test_a_job_whose_last_attempt_went_silent_fails_at_the_next(job):
    silent = replace(taken(job), attempt=3)
    ended = taken(silent, token="u", now=LATER + timedelta(minutes=5))
    assert (ended.status, ended.lease) == (JobStatus.FAILED, None)
    assert ended.error.code == "backend_unavailable"


def test_a_cancel_while_pictures_come_home_is_too_late_unless_they_fail_to(job):
    asked = rules.cancel(taken(job), now=LATER)
    assert asked.status is JobStatus.PROGRESS
    done = complete(asked, token="t", artifacts=(VIDEO,), summary=None, now=LATER)
    assert done.status is JobStatus.FINISHED
    assert rules.put_back(asked, token="t", error=WHY, now=LATER).status is JobStatus.CANCELED


def test_a_refused_output_fails_for_good(job):
    assert rules.refuse(taken(job), token="t", error=WHY, now=LATER).status is JobStatus.FAILED
    with pytest.raises(LeaseLost):
        rules.refuse(taken(job), token="u", error=WHY, now=LATER)


def test_a_cancel_ends_it_at_once_and_gives_back_what_nobody_had(job):
    canceled = rules.cancel(job, now=LATER)
    assert canceled.status is JobStatus.CANCELED
    assert is_given_back(canceled)
    with pytest.raises(JobAlreadyTerminal):
        rules.cancel(canceled, now=LATER)


def test_a_canceled_order_is_given_back_once_the_provider_says_that_it_never_ran(job):
    canceled = rules.cancel(heard(job, "starting", ran=False), now=LATER)
    assert not is_given_back(canceled), "it may be running by now"
    given = rules.give_back(canceled, now=LATER)
    assert given.charge.given_back_at == LATER
    assert rules.give_back(given, now=LATER + timedelta(seconds=1)) == given


def test_what_ran_is_never_given_back(job):
    canceled = rules.cancel(heard(job, "processing"), now=LATER)
    assert rules.give_back(canceled, now=LATER) == canceled


def test_a_silent_provider_is_asked_by_one_and_then_left_alone_for_a_while(job):
    known = heard(job, "processing", now=NOON)
    early = NOON + timedelta(seconds=4)
    assert rules.ask(known, now=early, stale_seconds=5) == known
    asking = rules.ask(known, now=NOON + timedelta(seconds=5), stale_seconds=5)
    assert asking.remote.heard_at == NOON + timedelta(seconds=5)
    assert rules.ask(asking, now=NOON + timedelta(seconds=6), stale_seconds=5) == asking


def test_nobody_asks_about_what_the_provider_has_not_accepted_or_what_has_ended(job):
    assert rules.ask(job, now=LATER, stale_seconds=5) == job
    ended = heard(job, "failed")
    assert rules.ask(ended, now=LATER + timedelta(hours=1), stale_seconds=5) == ended


def test_a_job_is_given_up_when_its_time_is_over_and_not_before(job):
    over = job.remote.gives_up_at
    assert rules.give_up(job, now=over - timedelta(seconds=1)) == job
    given_up = rules.give_up(job, now=over)
    assert given_up.status is JobStatus.FAILED
    assert given_up.error.code == "provider_timeout"
    assert "600 s" in given_up.error.message
    assert is_given_back(given_up), "nobody ever heard that it ran"
    assert rules.give_up(given_up, now=over) == given_up


def test_what_ran_into_the_time_limit_is_charged(job):
    given_up = rules.give_up(heard(job, "processing"), now=job.remote.gives_up_at)
    assert not is_given_back(given_up)


def test_pictures_on_their_way_home_are_waited_for(job):
    bringing = taken(job, now=job.remote.gives_up_at)
    assert rules.give_up(bringing, now=job.remote.gives_up_at) == bringing


def test_deleted_pictures_lead_nobody_to_them_and_go_with_their_retention(job):
    with pytest.raises(JobNotTerminal):
        rules.delete_pictures(job, now=LATER)
    done = complete(taken(job), token="t", artifacts=(VIDEO,), summary=None, now=LATER)
    deleted = rules.delete_pictures(done, now=LATER)
    assert deleted.has_expired_artifacts(LATER)
    assert deleted.artifacts, "the sweep must still find them"
    assert deleted.due_at == LATER + timedelta(seconds=deleted.retention.artifact_seconds)
    assert rules.delete_pictures(deleted, now=LATER) == deleted


def test_the_sweep_looks_when_a_provider_was_silent_for_long_and_when_its_time_is_over(job):
    assert job.due_at == job.remote.gives_up_at, "nobody could be asked about it"
    assert heard(job, "processing").due_at == LATER + REMOTE_SILENCE
    assert taken(job).due_at == LATER + timedelta(seconds=60)
    late = job.remote.gives_up_at - timedelta(seconds=1)
    assert heard(job, "processing", now=late).due_at == job.remote.gives_up_at


def test_the_pictures_that_a_failed_job_started_from_are_leftovers(job):
    ended = rules.cancel(picture_job(), now=LATER)
    assert ended.leftovers
    assert ended.due_at == LATER + UPLOAD_GRACE
    assert not rules.cancel(job, now=LATER).leftovers
