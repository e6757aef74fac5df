"""Parts of unfinished videos: stored as they are made, found by the next attempt, gone at the end."""

import threading
import time
from dataclasses import replace

import pytest
from anyio import to_thread

from shared.catalog import find_model
from shared.errors import ArtifactStoreUnavailable
from shared.job import JobStatus
from shared.submission import StartingPicture
from shared.wiring import wire
from tests.unit.consumer_under_test import (
    cancel,
    consume,
    consume_while,
    eventually,
    is_rendering,
    quick_config,
    stored_files,
    submit,
    until,
)

CLIP = find_model("wan2.1-demo")
PICTURE = StartingPicture(content=b"a picture", content_type="image/png", extension="png")
RESULT = ["final_video.mp4", "poster.jpg", "spritesheet.jpg"]


@pytest.fixture
def config(tmp_path):
    """Of two segments."""
    config = quick_config(tmp_path)
    companion = {"wan2.1-demo": config.models["wan2.1-demo"]}
    return config.model_copy(
        update={"generation_mode": "chaining", "segments": 2, "models": companion}
    )


@pytest.fixture
def wiring(config):
    wired = wire(config)
    yield wired
    wired.close()


class TakesNoParts:
    """An artifact store that refuses them."""

    def __init__(self, store):
        self._store = store

    def put(self, key, source, *, content_type):
        if "/parts/" in key:
            raise ArtifactStoreUnavailable("the bucket is full")
        return self._store.put(key, source, content_type=content_type)

    def __getattr__(self, name):
        return getattr(self._store, name)


class ListsNothing(TakesNoParts):
    def keys(self, _folder):
        raise ArtifactStoreUnavailable("the bucket does not answer")


class SlowWithParts:
    """Stores a part when it is told that the job is over."""

    def __init__(self, store):
        self._store = store
        self.begun = threading.Event()
        self.job_is_over = threading.Event()
        self.has_deleted = threading.Event()

    def put(self, key, source, *, content_type):
        if "/parts/" not in key:
            return self._store.put(key, source, content_type=content_type)
        content = source.parent.parent.parent / "late"
        content.write_bytes(source.read_bytes())
        self.begun.set()
        assert self.job_is_over.wait(20)
        return self._store.put(key, content, content_type=content_type)

    def delete(self, key):
        self._store.delete(key)
        self.has_deleted.set()

    def __getattr__(self, name):
        return getattr(self._store, name)


def log_of(wiring, job):
    return "\n".join(wiring.store.tail_log(job.id, tail=100))


def ask_for(wiring, job, prompt):
    """The scripted process does another thing at the next attempt."""

    def ask(stored):
        return replace(stored, request=replace(stored.request, prompt=prompt))

    wiring.store.update(job.id, ask)


async def part_is_stored(wiring):
    await eventually(lambda: "1.mp4" in stored_files(wiring))


def interrupted_after_a_part(wiring, tmp_path, **how):
    """A job whose worker has made a part and ended."""
    job = submit(wiring, "parts")

    async def wait_for_the_part(_consumer):
        await part_is_stored(wiring)

    consume_while(wiring, tmp_path, wait_for_the_part, **how)
    return job


def test_a_part_is_stored_as_soon_as_it_is_made(wiring, tmp_path):
    job = interrupted_after_a_part(wiring, tmp_path, ends=True)
    (part,) = wiring.artifacts.keys(f"videos/{job.created_at:%Y-%m}/{job.id}")
    assert part.endswith(f"{job.id}/parts/wan2.1-demo/segments/1.mp4")


def test_a_killed_workers_part_is_found_by_the_next_attempt(wiring, tmp_path):
    job = interrupted_after_a_part(wiring, tmp_path, ends=True)
    ask_for(wiring, job, "lastpart")
    time.sleep(2.2)  # the lease, and the message's deadline
    wiring.lifecycle.sweep()
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED
    log = log_of(wiring, job)
    assert "1 parts of an earlier attempt are there" in log
    assert "segments/1.mp4 found" in log
    assert "segments/2.mp4 made" in log


def test_a_finished_job_keeps_its_result_and_no_part(wiring, tmp_path):
    submit(wiring, "lastpart")
    consume(wiring, tmp_path)
    assert stored_files(wiring) == RESULT


def test_a_canceled_job_keeps_no_part(wiring, tmp_path):
    job = submit(wiring, "parts")

    async def cancel_after_a_part(_consumer):
        await part_is_stored(wiring)
        await cancel(wiring, job)
        await until(wiring, job.id, lambda job: job.status is JobStatus.CANCELED)

    consume_while(wiring, tmp_path, cancel_after_a_part)
    assert stored_files(wiring) == []


def test_a_worker_that_stops_hands_the_parts_on_and_spends_no_attempt(wiring, tmp_path):
    job = submit(wiring, "parts")

    async def stop_after_a_part(consumer):
        await part_is_stored(wiring)
        await consumer.hand_back()

    consume_while(wiring, tmp_path, stop_after_a_part, ends=True)
    assert stored_files(wiring) == ["1.mp4"]
    ask_for(wiring, job, "lastpart")
    consume(wiring, tmp_path)
    finished = wiring.store.get(job.id)
    assert (finished.status, finished.attempt) == (JobStatus.FINISHED, 1)
    assert "segments/1.mp4 found" in log_of(wiring, job)


def test_what_has_no_more_time_here_is_handed_back_if_a_part_is_done(wiring, tmp_path):
    job = submit(wiring, "parts")
    consume(wiring, tmp_path, longest_render_seconds=0.8)
    waiting = wiring.store.get(job.id)
    assert (waiting.status, waiting.attempt, waiting.error) == (JobStatus.QUEUED, 0, None)
    assert "its time here is over" in log_of(wiring, job)
    assert stored_files(wiring) == ["1.mp4"]


def test_without_a_part_no_more_time_is_a_failed_attempt(wiring, tmp_path):
    job = submit(wiring, "slow")
    consume(wiring, tmp_path, longest_render_seconds=0.5)
    waiting = wiring.store.get(job.id)
    assert (waiting.attempt, waiting.error.code) == (1, "render_timed_out")


def test_each_segment_has_the_time_of_a_clip(wiring, tmp_path):
    """Two segments of a second each: after one second the render still goes on."""
    submit(wiring, "slow")
    model = replace(CLIP, max_render_seconds=1)
    started = time.monotonic()
    consume(wiring, tmp_path, catalog={CLIP.name: model})
    assert 2 <= time.monotonic() - started < 6


def test_a_store_that_takes_no_parts_costs_no_job(wiring, tmp_path):
    job = submit(wiring, "lastpart")
    consume(replace(wiring, artifacts=TakesNoParts(wiring.artifacts)), tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED


def test_a_store_that_cannot_say_what_parts_there_are_is_asked_at_the_next_attempt(
    wiring, tmp_path
):
    job = submit(wiring, "lastpart")
    consume(replace(wiring, artifacts=ListsNothing(wiring.artifacts)), tmp_path)
    assert wiring.store.get(job.id).error.code == "artifact_store_unavailable"
    time.sleep(0.05)  # the backoff
    consume(wiring, tmp_path)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED


# --- the picture that a video begins with


def test_a_picture_is_brought_to_the_render_and_gone_when_the_job_has_ended(wiring, tmp_path):
    job = submit(wiring, "slow", picture=PICTURE)

    async def look_and_cancel(_consumer):
        await until(wiring, job.id, is_rendering)
        brought = tmp_path / "work" / job.id / "first_frame.png"
        assert brought.read_bytes() == PICTURE.content
        assert stored_files(wiring) == ["first_frame.png"]
        await cancel(wiring, job)
        await until(wiring, job.id, lambda job: job.status is JobStatus.CANCELED)

    consume_while(wiring, tmp_path, look_and_cancel)
    assert stored_files(wiring) == []


def test_a_finished_job_keeps_no_picture(wiring, tmp_path):
    submit(wiring, "ok", picture=PICTURE)
    consume(wiring, tmp_path)
    assert stored_files(wiring) == RESULT


def test_a_picture_that_is_not_there_yet_is_looked_for_again(wiring, tmp_path):
    job = submit(wiring, "ok", picture=PICTURE)
    wiring.artifacts.delete(job.input_keys[0])
    consume(wiring, tmp_path)
    tried = wiring.store.get(job.id)
    assert tried.status is JobStatus.QUEUED
    assert tried.error.code == "artifact_store_unavailable"
    assert "picture" in tried.error.message


def test_a_part_that_comes_too_late_is_removed_again(wiring, tmp_path):
    job = submit(wiring, "parts")
    slow = SlowWithParts(wiring.artifacts)

    async def cancel_at_once(_consumer):
        await until(wiring, job.id, is_rendering)
        await to_thread.run_sync(slow.begun.wait, 5)
        await cancel(wiring, job)
        await until(wiring, job.id, lambda job: job.status is JobStatus.CANCELED)

    consume_while(replace(wiring, artifacts=slow), tmp_path, cancel_at_once)
    slow.job_is_over.set()
    assert slow.has_deleted.wait(5)
    assert stored_files(wiring) == []


def test_a_clip_of_one_segment_asks_for_no_parts(tmp_path):
    wired = wire(quick_config(tmp_path))
    try:
        job = submit(wired, "ok")
        consume(replace(wired, artifacts=ListsNothing(wired.artifacts)), tmp_path)
        assert wired.store.get(job.id).status is JobStatus.FINISHED
    finally:
        wired.close()


def test_only_what_may_be_a_part_is_fetched(wiring, tmp_path):
    job = submit(wiring, "lastpart")
    stray = tmp_path / "stray"
    stray.write_text("?")
    folder = f"videos/{job.created_at:%Y-%m}/{job.id}/parts/wan2.1-demo"
    for name in ("segments/1.exe", "a/b/c.mp4", "final video.mp4"):
        wiring.artifacts.put(f"{folder}/{name}", stray, content_type="text/plain")
    consume(wiring, tmp_path)
    assert "of an earlier attempt" not in log_of(wiring, job)
    assert wiring.store.get(job.id).status is JobStatus.FINISHED
