"""A job that its backend fails goes to the other one, once, and to nobody else."""

import pytest

from shared.catalog import TOPIC_GPU, TOPIC_REMOTE
from shared.config import Config
from shared.errors import (
    BackendUnavailable,
    ModelUnavailable,
    OtherWorkersJob,
    PromptRefused,
    RenderCrashed,
)
from shared.job import JobStatus
from shared.submission import StartingPicture, Submission
from shared.wiring import wire
from tests.unit.consumer_under_test import consume

UNAVAILABLE = BackendUnavailable("Vertex AI has no capacity.")
CRASHED = RenderCrashed("The render process ended unexpectedly.")


@pytest.fixture
def open_wiring(tmp_path):
    opened = []

    def open_wiring(**keys):
        config = Config.model_validate(
            {
                "data_dir": tmp_path / "state",
                "default_backend": "veo3",
                "fallback_backend": "wan2.1",
                "render": {"model": "wan2.1-demo"},
                "vertex": {"project": "my-project"},
                "worker": {"max_attempts": 2},
                "queue": {"backoff_min_seconds": 0.01},
                **keys,
            }
        )
        opened.append(wire(config))
        return opened[-1]

    yield open_wiring
    for wiring in opened:
        wiring.close()


def submit(wiring, **said):
    body = {"prompt": "ok", **said}
    return wiring.lifecycle.submit(
        Submission(owner="ada", request_id="r1", body=body, prompt="ok", **said)
    )


def fail(wiring, job, error):
    claimed = wiring.lifecycle.claim(job.id, worker="w1")
    return wiring.lifecycle.fail(job.id, token=claimed.lease.token, error=error)


def next_message(wiring, topic):
    return wiring.queue.receive([topic], wait_seconds=0)


def test_a_backend_that_is_not_available_loses_the_job_at_once(open_wiring):
    wiring = open_wiring()
    job = submit(wiring)
    assert (job.request.model, job.request.preset) == ("veo3", "reference")
    moved = fail(wiring, job, UNAVAILABLE)
    assert (moved.status, moved.attempt) == (JobStatus.QUEUED, 0)
    assert (moved.request.model, moved.fallen_back_from) == ("wan2.1-demo", "veo3")
    assert next_message(wiring, TOPIC_GPU).message.job_id == job.id
    assert moved.request.prompt == job.request.prompt
    assert moved.request.seed == job.request.seed


def test_it_is_told_why_until_it_is_finished(open_wiring):
    wiring = open_wiring()
    moved = fail(wiring, submit(wiring), UNAVAILABLE)
    assert moved.error.message == UNAVAILABLE.message


def test_other_accidents_are_tried_again_where_they_happened_first(open_wiring):
    wiring = open_wiring()
    job = submit(wiring)
    assert fail(wiring, job, CRASHED).request.model == "veo3"
    assert fail(wiring, job, CRASHED).request.model == "wan2.1-demo"


def test_the_fallback_has_all_its_attempts_and_no_fallback(open_wiring):
    wiring = open_wiring()
    job = submit(wiring)
    fail(wiring, job, UNAVAILABLE)
    assert fail(wiring, job, UNAVAILABLE).status is JobStatus.QUEUED
    ended = fail(wiring, job, UNAVAILABLE)
    assert (ended.status, ended.request.model) == (JobStatus.FAILED, "wan2.1-demo")


@pytest.mark.parametrize("error", [PromptRefused("No."), ModelUnavailable("No key.")])
def test_what_no_retry_would_mend_is_nobody_elses_either(open_wiring, error):
    wiring = open_wiring()
    assert fail(wiring, submit(wiring), error).status is JobStatus.FAILED


def test_without_a_fallback_the_job_goes_back_to_its_own_queue(open_wiring):
    wiring = open_wiring(fallback_backend=None)
    moved = fail(wiring, submit(wiring), UNAVAILABLE)
    assert (moved.request.model, moved.attempt) == ("veo3", 1)


def test_a_clip_the_other_cannot_make_stays_where_it_is(open_wiring):
    wiring = open_wiring()
    assert fail(wiring, submit(wiring, duration_seconds=8), UNAVAILABLE).request.model == "veo3"


@pytest.mark.parametrize(
    ("keys", "taken_over"),
    [
        ({"models": {"wan2.1-demo": {"dir": "m"}}}, False),
        ({"render": {"model": "wan2.1-demo", "preset": "fast"}}, False),
        ({}, True),
    ],
)
def test_a_picture_to_begin_with_goes_where_a_video_can_begin_with_one(
    open_wiring, keys, taken_over
):
    wiring = open_wiring(**keys)
    picture = StartingPicture(content=b"png", content_type="image/png", extension="png")
    submission = Submission(owner="ada", request_id="r1", body={}, prompt="ok", picture=picture)
    job = fail(wiring, wiring.lifecycle.submit(submission), UNAVAILABLE)
    assert (job.request.model == "wan2.1-demo") == taken_over


def test_veo_may_take_over_for_wan(open_wiring):
    wiring = open_wiring(
        default_backend="wan2.1",
        fallback_backend="veo3",
        render={"preset": "fast", "frames": 21, "guidance_scale": None},
    )
    moved = fail(wiring, submit(wiring), UNAVAILABLE)
    assert (moved.request.model, moved.request.preset) == ("veo3", "reference")
    assert moved.request.frames is None
    assert next_message(wiring, TOPIC_REMOTE).message.job_id == moved.id


def test_a_message_left_on_the_first_topic_is_no_claim(open_wiring):
    wiring = open_wiring()
    job = submit(wiring)
    fail(wiring, job, UNAVAILABLE)
    with pytest.raises(OtherWorkersJob):
        wiring.lifecycle.claim(job.id, worker="w1", topic=TOPIC_REMOTE)
    assert wiring.store.get(job.id).attempt == 0
    assert wiring.lifecycle.claim(job.id, worker="w2", topic=TOPIC_GPU).attempt == 1


def test_a_worker_acknowledges_a_message_whose_job_has_moved(open_wiring, tmp_path):
    wiring = open_wiring(default_backend="wan2.1", fallback_backend="veo3")
    job = submit(wiring)
    fail(wiring, job, UNAVAILABLE)
    consume(wiring, tmp_path)
    assert wiring.queue.depth(TOPIC_GPU) == 0
    assert wiring.queue.depth(TOPIC_REMOTE) == 1
    assert wiring.store.get(job.id).status is JobStatus.QUEUED


def test_a_worker_whose_render_fails_leaves_no_message_of_its_own(open_wiring, tmp_path):
    """The job has one on the other topic: its own would only wake this worker for nothing."""
    wiring = open_wiring(
        default_backend="wan2.1", fallback_backend="veo3", worker={"max_attempts": 1}
    )
    body = {"prompt": "crash"}
    job = wiring.lifecycle.submit(
        Submission(owner="ada", request_id="r1", body=body, prompt="crash")
    )
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).request.model == "veo3"
    assert wiring.queue.depth(TOPIC_GPU) == 0
    assert wiring.queue.depth(TOPIC_REMOTE) == 1


def test_a_job_that_could_not_be_published_is_published_by_the_sweep(open_wiring):
    wiring = open_wiring()
    job = submit(wiring)
    publish, wiring.queue.publish = wiring.queue.publish, unreachable
    moved = fail(wiring, job, UNAVAILABLE)
    wiring.queue.publish = publish
    assert moved.published_at is None
    wiring.lifecycle.sweep()
    assert next_message(wiring, TOPIC_GPU).message.job_id == job.id


def unreachable(_topic, _message):
    raise BackendUnavailable("the queue does not answer")
