"""Where owners are told of the ends of their jobs: what every store of jobs promises of it."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from shared.errors import WebhookNotFound
from shared.job import JobStatus
from shared.transitions import request_cancel
from shared.webhook import Webhook, WebhookAttempt, WebhookEndpoint, WebhookStatus
from shared.webhooks import transitions as rules
from tests.jobs import NOON

ENDPOINT = WebhookEndpoint(
    owner="ada",
    url="https://reel.example/hooks",
    secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    created_at=NOON,
    old_secret="whsec_b2xk",
    old_secret_until=NOON + timedelta(hours=24),
    disabled_at=NOON + timedelta(microseconds=1),
)


def test_an_endpoint_is_kept_as_it_was_stored(job_store, open_job_store):
    assert job_store.endpoint("ada") is None
    assert job_store.change_endpoint("ada", lambda _: ENDPOINT) == ENDPOINT
    with closing(open_job_store()) as another:
        assert another.endpoint("ada") == ENDPOINT
    assert job_store.endpoint("bob") is None


@pytest.mark.parametrize("owner", ["a/b", "..", "__all__", "ädä 💡", "x" * 2000])
def test_an_owner_may_be_called_anything(job_store, owner):
    job_store.change_endpoint(owner, lambda _: replace(ENDPOINT, owner=owner))
    assert job_store.endpoint(owner).owner == owner


def test_a_change_sees_what_is_stored(job_store):
    seen = []

    def note(stored):
        seen.append(stored)
        return replace(ENDPOINT, secret="whsec_bmV3") if stored else ENDPOINT

    job_store.change_endpoint("ada", note)
    job_store.change_endpoint("ada", note)
    assert seen == [None, ENDPOINT]
    assert job_store.endpoint("ada").secret == "whsec_bmV3"


def test_a_change_that_raises_changes_nothing(job_store):
    job_store.change_endpoint("ada", lambda _: ENDPOINT)

    def refuse(_stored):
        raise WebhookNotFound

    with pytest.raises(WebhookNotFound):
        job_store.change_endpoint("ada", refuse)
    assert job_store.endpoint("ada") == ENDPOINT


def test_changes_at_once_are_all_kept(job_store):
    job_store.change_endpoint("ada", lambda _: replace(ENDPOINT, url="https://reel.example/"))

    def longer(stored):
        return replace(stored, url=stored.url + "x")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: job_store.change_endpoint("ada", longer), range(10)))
    assert job_store.endpoint("ada").url == "https://reel.example/" + "x" * 10


def test_two_that_register_at_once_do_not_overlook_each_other(job_store):
    with ThreadPoolExecutor(2) as threads:
        secrets = [f"whsec_{number}" for number in range(2)]
        made = list(
            threads.map(
                lambda secret: job_store.change_endpoint(
                    "ada", lambda stored: stored or replace(ENDPOINT, secret=secret)
                ),
                secrets,
            )
        )
    assert made[0] == made[1] == job_store.endpoint("ada")


def test_a_removed_endpoint_is_gone_and_may_be_removed_again(job_store):
    job_store.change_endpoint("ada", lambda _: ENDPOINT)
    job_store.remove_endpoint("ada")
    assert job_store.endpoint("ada") is None
    job_store.remove_endpoint("ada")


def test_a_jobs_webhook_is_kept_with_it_and_makes_it_due(job_store, new_job):
    job = new_job(webhook=Webhook())
    job_store.admit(job)
    job_store.update(job.id, lambda stored: request_cancel(stored, now=NOON))
    within = timedelta(seconds=60)
    job_store.update(job.id, lambda stored: rules.begin(stored, now=NOON, within=within))
    attempt = WebhookAttempt(at=NOON, seconds=0.25, status=None, error="The connection failed.")
    tried = job_store.update(
        job.id,
        lambda stored: rules.not_delivered(
            stored,
            attempt=attempt,
            tries=1,
            pauses=[timedelta(seconds=5)],
            asked_for=None,
            now=NOON,
        ),
    )
    stored = job_store.get(job.id)
    assert stored == tried
    assert stored.status is JobStatus.CANCELED
    assert stored.webhook.status is WebhookStatus.PENDING
    assert stored.webhook.attempts == (attempt,)
    later = NOON + timedelta(seconds=5)
    assert job_store.due(later - timedelta(milliseconds=1), limit=10, statuses=JobStatus) == []
    assert [due.id for due in job_store.due(later, limit=10, statuses=JobStatus)] == [job.id]
