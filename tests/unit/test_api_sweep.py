from dataclasses import replace

import pytest

from services.api.app import create_app
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile
from shared.errors import CertificatesUnavailable, UntrustedCaller
from shared.job import JobStatus
from tests.unit.api_under_test import running_api


class Guard:
    """Knows one token."""

    def check(self, authorization):
        if authorization == "Bearer unreachable":
            raise CertificatesUnavailable("Google's certificates cannot be fetched.")
        if authorization != "Bearer schedulers":
            raise UntrustedCaller("another account")


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


@pytest.fixture
def guarded(api):
    """The same API, where Cloud Scheduler may call."""
    return create_app(
        replace(api.wiring, scheduler=Guard()), KeyRing(KeyFile(api.key_file))
    ).test_client()


def sweep(client, token):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return client.post("/internal/sweep", headers=headers)


def test_a_silent_workers_job_goes_back_to_the_queue(api, guarded):
    job_id = api.submit()
    api.worker.claim_next()
    api.clock.advance(api.wiring.config.worker.lease_seconds)
    reply = sweep(guarded, "schedulers")
    assert reply.status_code == 200
    assert reply.json["requeued"] == 1
    assert api.wiring.store.get(job_id).status is JobStatus.QUEUED


@pytest.mark.parametrize("token", [None, "", "another", "key"])
def test_nobody_else_may_ask(api, guarded, token):
    job_id = api.submit()
    api.worker.claim_next()
    api.clock.advance(api.wiring.config.worker.lease_seconds)
    reply = sweep(guarded, api.key if token == "key" else token)
    assert reply.status_code == 403
    assert reply.json["error"]["code"] == "untrusted_caller"
    assert api.wiring.store.get(job_id).status is JobStatus.STARTED


def test_without_a_scheduler_in_the_configuration_nobody_may(api):
    assert sweep(api.anonymous, "schedulers").status_code == 403


def test_while_nobody_can_tell_who_asks_the_scheduler_comes_again(guarded):
    assert sweep(guarded, "unreachable").status_code == 503
