import os
import signal
import time
from dataclasses import replace

import anyio
import pytest
from anyio import to_thread

from services.gpu_worker.orders import render_command
from shared import transitions as rules
from shared.catalog import CATALOG, TOPIC_GPU, find_model
from shared.errors import StoreUnavailable
from shared.job import JobStatus
from shared.messages import Message
from shared.wiring import wire
from tests.jobs import plain_job
from tests.unit.consumer_under_test import (
    consume,
    consume_while,
    eventually,
    is_rendering,
    quick_config,
    receive,
    render_processes,
    submit,
    until,
    working,
)


@pytest.fixture
def config(tmp_path):
    return quick_config(tmp_path)


@pytest.fixture
def wiring(config):
    wired = wire(config)
    yield wired
    wired.close()


def test_a_message_becomes_a_finished_job_with_its_artifacts(wiring, tmp_path):
    job = submit(wiring, "ok")
    consume(wiring, tmp_path)
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.FINISHED
    assert job.progress == 100
    assert job.attempt == 1
    video = job.artifact("video")
    assert video.key == f"videos/{job.created_at:%Y-%m}/{job.id}/final_video.mp4"
    assert video.uri == f"local://promptreel/{video.key}"
    assert job.summary.output_size == "832x480"
    assert job.summary.generation_seconds > 0
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_the_job_log_tells_what_happened(wiring, tmp_path):
    job = submit(wiring, "ok")
    consume(wiring, tmp_path)
    text = "\n".join(wiring.store.tail_log(job.id, tail=100))
    assert "attempt 1 of 2 on scripted" in text
    assert "upload: 3 files" in text
    assert "finished in" in text


def test_nothing_is_left_in_the_workspace(wiring, tmp_path):
    for prompt in ("ok", "refuse", "crash"):
        submit(wiring, prompt)
        consume(wiring, tmp_path)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_refused_prompt_fails_at_once_and_says_why(wiring, tmp_path):
    job = submit(wiring, "refuse")
    consume(wiring, tmp_path)
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error.code == "prompt_refused"
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_a_crash_is_tried_again_until_the_attempts_are_used_up(wiring, tmp_path):
    job = submit(wiring, "crash")
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.QUEUED
    assert wiring.queue.depth(TOPIC_GPU) == 1
    time.sleep(0.05)  # the backoff
    consume(wiring, tmp_path)
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.FAILED
    assert job.error.code == "render_crashed"
    assert job.attempt == 2
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_a_render_past_its_time_is_stopped_and_tried_again(wiring, tmp_path):
    job = submit(wiring, "slow")
    impatient = replace(CATALOG["wan2.1-demo"], max_render_seconds=1)
    consume(wiring, tmp_path, catalog={"wan2.1-demo": impatient})
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.QUEUED
    assert job.error.code == "render_timed_out"


def test_a_render_longer_than_its_lease_keeps_its_job(wiring, tmp_path):
    job = submit(wiring, "slow")

    async def wait_past_the_lease(consumer):
        await until(wiring, job.id, is_rendering)
        await anyio.sleep(2.5)
        report = await to_thread.run_sync(wiring.lifecycle.sweep)
        assert not report
        assert await to_thread.run_sync(receive, wiring) is None
        await consumer.hand_back()

    consume_while(wiring, tmp_path, wait_past_the_lease)


def test_a_worker_that_lost_its_lease_changes_nothing_any_more(wiring, tmp_path):
    job = submit(wiring, "slow")

    async def steal(_consumer):
        await until(wiring, job.id, is_rendering)

        def lose(stored):
            return replace(stored, lease=replace(stored.lease, token="another's"))

        await to_thread.run_sync(wiring.store.update, job.id, lose)

    consume_while(wiring, tmp_path, steal)
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.PROGRESS
    assert job.lease.token == "another's"
    assert wiring.metrics.registry.get_sample_value("promptreel_leases_lost_total") == 1


def test_a_worker_that_goes_down_hands_its_job_back_at_once(wiring, tmp_path):
    job = submit(wiring, "slow")

    async def go_down(consumer):
        await until(wiring, job.id, is_rendering)
        await consumer.hand_back()

    consume_while(wiring, tmp_path, go_down)
    job = wiring.store.get(job.id)
    assert job.status is JobStatus.QUEUED
    assert job.attempt == 0
    assert receive(wiring).message.job_id == job.id


def test_a_message_for_a_job_in_other_hands_is_acknowledged(wiring, tmp_path):
    job = submit(wiring, "ok")
    wiring.lifecycle.claim(job.id, worker="another")
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).lease.worker == "another"
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_a_message_for_a_terminal_job_is_acknowledged(wiring, tmp_path):
    job = submit(wiring, "ok")
    wiring.lifecycle.cancel(job.id, owner="ada")
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.CANCELED
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_a_message_for_an_unknown_job_is_acknowledged(wiring, tmp_path):
    wiring.queue.publish(TOPIC_GPU, Message(job_id="job_nobody_knows"))
    consume(wiring, tmp_path)
    assert wiring.queue.depth(TOPIC_GPU) == 0


def test_a_job_without_attempts_left_fails_without_a_render(wiring, tmp_path):
    job = submit(wiring, "ok")
    wiring.store.update(job.id, lambda stored: replace(stored, attempt=2))
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FAILED
    assert wiring.queue.depth(TOPIC_GPU) == 0


class FlakyStore:
    """A job store that is away for the first calls that would complete a job."""

    def __init__(self, store, *, failures):
        self._store = store
        self._failures = failures

    def __getattr__(self, name):
        return getattr(self._store, name)

    def update(self, job_id, transition):
        if transition.func is rules.complete and self._failures > 0:
            self._failures -= 1
            raise StoreUnavailable("the database cannot be used (SQLITE_FULL)")
        return self._store.update(job_id, transition)


def test_a_store_that_comes_back_still_gets_the_result(wiring, tmp_path):
    store = FlakyStore(wiring.store, failures=3)
    lifecycle = replace(wiring.lifecycle, store=store)
    job = submit(wiring, "ok")
    consume(replace(wiring, store=store, lifecycle=lifecycle), tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED
    assert wiring.store.get(job.id).attempt == 1


def test_without_a_loaded_model_nothing_is_claimed(wiring, tmp_path):
    job = submit(wiring, "ok")

    async def main():
        async with working(wiring, tmp_path) as consumer:
            (process,) = render_processes()
            os.kill(process.pid, signal.SIGKILL)
            await eventually(lambda: not consumer._supervisor.model_loaded)
            await consumer.consume(receive(wiring))

    anyio.run(main, backend="trio")
    assert wiring.store.get(job.id) == job
    assert receive(wiring).message.job_id == job.id


def test_of_a_flood_of_log_lines_the_newest_are_kept_and_cut_to_a_length(wiring, tmp_path):
    job = submit(wiring, "flood")
    impatient = replace(CATALOG["wan2.1-demo"], max_render_seconds=1)
    consume(wiring, tmp_path, catalog={"wan2.1-demo": impatient})
    lines = wiring.store.tail_log(job.id, tail=10_000)
    assert "longer than 1 seconds" in lines[-1]
    assert len(lines) <= wiring.config.limits.log_lines_per_job
    assert max(map(len, lines)) < 2100


@pytest.mark.parametrize("name", find_model("wan2.1").presets)
def test_the_catalog_spells_out_the_job_s_preset(tmp_path, name):
    model, job = find_model("wan2.1"), plain_job()
    preset = model.presets[name]

    command = render_command(job.id, replace(job.request, preset=name), model, tmp_path)

    for field in (
        *("scheduler", "steps", "timesteps", "guidance_scale", "guided_steps"),
        *("flow_shift", "decoder"),
    ):
        assert getattr(command, field) == getattr(preset, field)
