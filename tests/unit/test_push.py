"""The worker that is pushed to, by HTTP: what it answers, and what has become of the job."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from services.gpu_worker import consumer
from shared.config import Config, load_config
from shared.errors import ConfigurationError, StoreUnavailable
from shared.job import JobStatus
from shared.wiring import Wiring, wire
from tests.unit.google_tokens import ACCOUNT, AUDIENCE, Google
from tests.unit.push_under_test import (
    Pushed,
    Workers,
    envelope,
    pushed_workers,
    status,
    submit,
    until,
    wire_without_completion,
    write_config,
)

TYPE = "google.cloud.pubsub.topic.v1.messagePublished"


@pytest.fixture
def config_file(tmp_path, monkeypatch) -> Path:
    file = write_config(tmp_path)
    monkeypatch.setenv("PROMPTREEL_CONFIG", str(file))
    return file


@pytest.fixture
def config(config_file) -> Config:
    return load_config(config_file)


@pytest.fixture
def wiring(config) -> Iterator[Wiring]:
    with closing(wire(config)) as wired:
        yield wired


@pytest.fixture
def open_worker(config, wiring) -> Iterator[Workers]:
    with pushed_workers(config) as workers:
        yield workers


@pytest.fixture
def worker(open_worker) -> Pushed:
    return open_worker()


# --- what becomes of a message


def test_a_finished_render_is_acknowledged(wiring, worker):
    job = submit(wiring, "ok")
    assert worker.push(job.id) == 204
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.FINISHED
    assert job.attempt == 1
    assert job.artifact("video").key.endswith("final_video.mp4")


def test_a_crash_is_delivered_again_until_the_attempts_are_used_up(wiring, worker):
    job = submit(wiring, "crash")
    assert worker.push(job.id) == 503
    assert status(wiring, job) is JobStatus.QUEUED
    assert worker.push(job.id) == 204
    job = wiring.store.get(job.id)
    assert (job.status, job.attempt) == (JobStatus.FAILED, 2)


def test_a_refused_prompt_is_acknowledged(wiring, worker):
    job = submit(wiring, "refuse")
    assert worker.push(job.id) == 204
    assert status(wiring, job) is JobStatus.FAILED


def test_a_job_in_other_hands_is_acknowledged_and_left_to_them(wiring, worker):
    job = submit(wiring, "ok")
    lease = wiring.lifecycle.claim(job.id, worker="another").lease
    assert worker.push(job.id) == 204
    assert wiring.store.get(job.id).lease == lease


def test_a_second_push_of_the_job_in_work_is_acknowledged_without_a_wait(wiring, worker):
    job = submit(wiring, "slow")
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(worker.push, job.id)
        until(lambda: status(wiring, job) is JobStatus.PROGRESS)
        started = time.monotonic()
        assert worker.push(job.id) == 204
        assert time.monotonic() - started < 1
        assert not first.done()
        wiring.lifecycle.cancel(job.id, owner="ada")
        assert first.result(timeout=10) == 204
    assert status(wiring, job) is JobStatus.CANCELED
    assert wiring.store.get(job.id).attempt == 1


def test_a_terminal_job_is_acknowledged(wiring, worker):
    job = submit(wiring, "ok")
    wiring.lifecycle.cancel(job.id, owner="ada")
    assert worker.push(job.id) == 204
    assert status(wiring, job) is JobStatus.CANCELED


def test_an_unknown_job_is_acknowledged(worker):
    assert worker.push("job_nobody_knows") == 204


class SilentStore:
    """A job store that takes heartbeats and answers nobody."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def get(self, _job_id):
        raise StoreUnavailable("the database cannot be used")


def silenced(config: Config) -> Wiring:
    wiring = wire(config)
    return replace(wiring, store=SilentStore(wiring.store))


def test_a_store_that_does_not_answer_has_the_message_delivered_again(wiring, open_worker):
    job = submit(wiring, "ok")
    reply = open_worker(open_wiring=silenced).post(envelope(job.id))
    assert reply.status_code == 503
    assert reply.json["code"] == "store_unavailable"
    assert wiring.store.get(job.id) == job


def test_a_store_that_is_gone_when_the_claim_comes_has_it_delivered_again(wiring, open_worker):
    def without_claims(config: Config) -> Wiring:
        wired = wire(config)
        lifecycle = replace(wired.lifecycle, store=SilentUpdates(wired.store))
        return replace(wired, lifecycle=lifecycle)

    class SilentUpdates(SilentStore):
        def update(self, job_id, _transition):
            self.get(job_id)

    job = submit(wiring, "ok")
    assert open_worker(open_wiring=without_claims).push(job.id) == 503
    assert wiring.store.get(job.id) == job


def test_a_store_that_is_gone_when_the_render_ends_has_it_delivered_again(
    wiring, open_worker, monkeypatch
):
    monkeypatch.setattr(consumer, "_SETTLE_SECONDS", 0.5)  # twenty seconds are told no better
    job = submit(wiring, "ok")
    assert open_worker(open_wiring=wire_without_completion).push(job.id) == 503
    assert not status(wiring, job).is_terminal


def test_a_bug_and_a_mistake_of_the_operators_tell_the_caller_nothing(
    wiring, open_worker, tmp_path
):
    def bug(_config: Config) -> Wiring:
        raise RuntimeError("/secret/path")

    def mistake(_config: Config) -> Wiring:
        raise ConfigurationError(Path("/secret/path"), [("", "cannot be used")])

    job = submit(wiring, "ok")
    for open_wiring, status_code in ((bug, 500), (mistake, 503)):
        worker = open_worker(open_wiring=open_wiring)
        for reply in (worker.post(envelope(job.id)), worker.get("/health")):
            assert reply.status_code == status_code
            assert "secret" not in reply.text


# --- forms


def event(job_id: str) -> dict:
    fields = {"specversion": "1.0", "id": "1", "source": "//pubsub", "type": TYPE}
    return {**fields, "data": envelope(job_id)}


def test_cloud_events_and_attributes_are_read_too(wiring, worker):
    binary = {"ce-type": TYPE, "ce-id": "1", "ce-source": "//pubsub", "ce-specversion": "1.0"}
    structured = {"Content-Type": "application/cloudevents+json"}
    for form, headers in (
        (envelope, binary),
        (event, structured),
        (lambda job_id: {"message": {"attributes": {"job_id": job_id}, "messageId": "1"}}, {}),
    ):
        job = submit(wiring, "ok")
        assert worker.post(form(job.id), headers).status_code == 204
        assert status(wiring, job) is JobStatus.FINISHED


@pytest.mark.parametrize("body", [b"", b"not JSON", b"{}", b'{"message": {"messageId": "1"}}'])
def test_what_is_malformed_is_refused_and_says_why(worker, body):
    reply = worker.post(body)
    assert reply.status_code == 400
    assert reply.json["code"] == "unreadable_message"
    assert reply.json["message"]


# --- callers


@pytest.fixture(scope="module")
def google() -> Iterator[Google]:
    with Google() as google:
        yield google


@pytest.fixture
def guarded_worker(config, open_worker, google) -> Pushed:
    push = config.gcp.push.model_copy(update={"audience": AUDIENCE, "service_account": ACCOUNT})
    gcp = config.gcp.model_copy(update={"push": push})
    return open_worker(
        config.model_copy(update={"gcp": gcp}), certificates_url=google.certificates_url
    )


def test_a_trusted_caller_is_let_in(wiring, guarded_worker, google):
    job = submit(wiring, "ok")
    headers = {"Authorization": f"Bearer {google.token()}"}
    assert guarded_worker.post(envelope(job.id), headers).status_code == 204
    assert status(wiring, job) is JobStatus.FINISHED


def test_an_untrusted_caller_is_refused_and_nothing_is_claimed(wiring, guarded_worker, google):
    job = submit(wiring, "ok")
    for headers in (
        {},
        {"Authorization": "Bearer garbage"},
        {"Authorization": f"Bearer {google.token(email='another@example.com')}"},
    ):
        for content in (envelope(job.id), b"not JSON"):
            reply = guarded_worker.post(content, headers)
            assert reply.status_code == 403
            assert reply.json["code"] == "untrusted_caller"
    assert wiring.store.get(job.id) == job
