"""Every rule about how a job's webhook may change."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import JobNotTerminal, WebhookNotDue, WebhookNotFound
from shared.job import PUBLISH_GRACE, JobError, JobStatus
from shared.transitions import claim, complete, dead_letter, fail, hide, request_cancel
from shared.webhook import Webhook, WebhookAttempt, WebhookStatus
from shared.webhooks import transitions as rules
from tests.jobs import NOON, SUMMARY, VIDEO, plain_job

SECOND = timedelta(seconds=1)
WITHIN = timedelta(seconds=60)
PAUSES = [timedelta(seconds=5), timedelta(minutes=5)]
ERROR = JobError(code="render_crashed", message="It crashed.")
REFUSED = WebhookAttempt(at=NOON, seconds=0.1, status=500, error="The receiver did not accept it.")
ACCEPTED = WebhookAttempt(at=NOON, seconds=0.1, status=204)


def waiting():
    return plain_job(webhook=Webhook())


def started():
    return claim(waiting(), token="t", worker="w", now=NOON, lease_seconds=30)


def pending():
    return complete(started(), token="t", artifacts=(VIDEO,), summary=SUMMARY, now=NOON)


def refused(job, *, now=NOON, asked_for=None):
    return rules.not_delivered(
        job,
        attempt=REFUSED,
        tries=job.webhook.tries,
        pauses=PAUSES,
        asked_for=asked_for,
        now=now,
    )


# --- when the job ends


@pytest.mark.parametrize(
    "end",
    [
        pending,
        lambda: fail(started(), token="t", error=ERROR, now=NOON),
        lambda: request_cancel(waiting(), now=NOON),
        lambda: dead_letter(waiting(), now=NOON),
    ],
    ids=["finished", "failed", "canceled", "undeliverable"],
)
def test_whatever_the_end_it_is_to_be_told(end):
    job = end()
    assert job.webhook.status is WebhookStatus.PENDING
    # The sweep looks at it soon, for whoever has ended it may have died before it sent a message.
    assert job.due_at == NOON + PUBLISH_GRACE


def test_nobody_is_told_of_a_job_whose_owner_had_no_endpoint():
    assert request_cancel(plain_job(), now=NOON).webhook is None


def test_nobody_is_told_of_a_job_that_its_owner_has_deleted():
    assert hide(waiting(), now=NOON).webhook is None
    assert hide(pending(), now=NOON).webhook is None
    running = hide(started(), now=NOON)
    assert fail(running, token="t", error=ERROR, now=NOON).webhook is None


def test_a_job_is_looked_at_for_its_files_when_there_is_nothing_to_tell_any_more():
    told = rules.delivered(pending(), attempt=ACCEPTED)
    assert told.due_at == NOON + timedelta(seconds=told.retention.artifact_seconds)


def test_files_are_removed_in_time_however_late_the_next_try_is():
    begun = rules.begin(pending(), now=NOON, within=WITHIN)
    later = refused(begun, asked_for=timedelta(hours=23))
    assert later.webhook.due_at == NOON + timedelta(hours=23)
    assert later.due_at == NOON + timedelta(seconds=later.retention.artifact_seconds)


# --- an attempt


def test_one_courier_at_a_time_has_it():
    begun = rules.begin(pending(), now=NOON, within=WITHIN)
    with pytest.raises(WebhookNotDue):
        rules.begin(begun, now=NOON + WITHIN - SECOND, within=WITHIN)
    # It has died: the sweep sends a message, and another one takes it.
    assert rules.is_due(begun, NOON + WITHIN)
    again = rules.begin(begun, now=NOON + WITHIN, within=WITHIN)
    assert again.webhook.tries == 2


@pytest.mark.parametrize("job", [waiting(), started()], ids=["queued", "started"])
def test_nothing_is_sent_of_a_job_that_has_not_ended(job):
    with pytest.raises(WebhookNotDue):
        rules.begin(job, now=NOON, within=WITHIN)


def test_what_is_delivered_is_not_sent_again():
    told = rules.delivered(rules.begin(pending(), now=NOON, within=WITHIN), attempt=ACCEPTED)
    assert told.webhook.status is WebhookStatus.DELIVERED
    assert told.webhook.attempts == (ACCEPTED,)
    with pytest.raises(WebhookNotDue):
        rules.begin(told, now=NOON + timedelta(days=1), within=WITHIN)
    assert refused(told) == told


def test_it_is_tried_again_after_each_pause_and_then_given_up():
    job, now = pending(), NOON
    for pause in PAUSES:
        job = refused(rules.begin(job, now=now, within=WITHIN), now=now)
        assert job.webhook.status is WebhookStatus.PENDING
        assert job.webhook.not_before == job.webhook.due_at == now + pause
        with pytest.raises(WebhookNotDue):
            rules.begin(job, now=now + pause - SECOND, within=WITHIN)
        now += pause
    job = refused(rules.begin(job, now=now, within=WITHIN), now=now)
    assert job.webhook.status is WebhookStatus.FAILED
    assert job.webhook.due_at is None
    assert len(job.webhook.attempts) == 3


@pytest.mark.parametrize(
    ("asked_for", "pause"),
    [
        (timedelta(seconds=1), PAUSES[0]),  # not sooner than we would by ourselves
        (timedelta(minutes=10), timedelta(minutes=10)),
        (timedelta(days=300), timedelta(hours=24)),
    ],
)
def test_a_receiver_may_ask_for_a_longer_pause_of_a_day_at_most(asked_for, pause):
    begun = rules.begin(pending(), now=NOON, within=WITHIN)
    assert refused(begun, asked_for=asked_for).webhook.not_before == NOON + pause


def test_who_was_overtaken_puts_nothing_off_but_may_have_delivered():
    slow = rules.begin(pending(), now=NOON, within=WITHIN)
    taken = rules.begin(slow, now=NOON + WITHIN, within=WITHIN)
    late = rules.not_delivered(
        taken, attempt=REFUSED, tries=1, pauses=PAUSES, asked_for=None, now=NOON
    )
    assert late == taken
    assert rules.delivered(taken, attempt=ACCEPTED).webhook.status is WebhookStatus.DELIVERED


def test_to_be_put_off_costs_no_try():
    put_off = rules.put_off(pending(), until=NOON + SECOND)
    assert put_off.webhook.tries == 0
    with pytest.raises(WebhookNotDue):
        rules.begin(put_off, now=NOON, within=WITHIN)
    assert rules.begin(put_off, now=NOON + SECOND, within=WITHIN).webhook.tries == 1


def test_the_newest_attempts_are_remembered():
    job = pending()
    for number in range(30):
        job = rules.redeliver(job, now=NOON)
        begun = rules.begin(job, now=NOON, within=WITHIN)
        job = rules.delivered(begun, attempt=replace(ACCEPTED, seconds=number))
    assert [attempt.seconds for attempt in job.webhook.attempts] == list(range(10, 30))


# --- messages


def test_a_message_is_sent_once_and_again_after_an_hour_if_nobody_takes_it():
    job = pending()
    assert not rules.is_due(job, NOON)
    late = NOON + PUBLISH_GRACE
    assert rules.is_due(job, late)
    published = rules.mark_published(job, now=late)
    assert not rules.is_due(published, late + rules.REPUBLISH_AFTER - SECOND)
    assert rules.is_due(published, late + rules.REPUBLISH_AFTER)
    # It can be taken at any moment meanwhile.
    assert rules.begin(published, now=late, within=WITHIN).webhook.tries == 1


def test_a_sweep_that_comes_late_takes_no_attempt_back():
    begun = rules.begin(pending(), now=NOON, within=WITHIN)
    assert rules.mark_published(begun, now=NOON + SECOND) == begun


# --- on request


@pytest.mark.parametrize(
    "settled",
    [
        lambda job: rules.delivered(job, attempt=ACCEPTED),
        lambda job: rules.give_up(job, attempt=REFUSED),
        lambda job: job,
    ],
    ids=["delivered", "failed", "pending"],
)
def test_it_is_sent_again_with_all_its_retries(settled):
    job = settled(rules.begin(pending(), now=NOON, within=WITHIN))
    again = rules.redeliver(job, now=NOON)
    assert again.webhook.status is WebhookStatus.PENDING
    assert again.webhook.attempts == job.webhook.attempts
    assert rules.is_due(again, NOON)
    assert refused(rules.begin(again, now=NOON, within=WITHIN)).webhook.tries == 1


def test_only_what_has_ended_and_has_a_webhook_is_sent_again():
    with pytest.raises(JobNotTerminal):
        rules.redeliver(started(), now=NOON)
    with pytest.raises(WebhookNotFound):
        rules.redeliver(plain_job(status=JobStatus.FINISHED), now=NOON)
