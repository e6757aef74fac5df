"""Many requests at once, as callers send them: none is lost, none is answered with an error."""

import io
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import av
import httpx
import pytest

from services.cli.client_key import client_key
from shared.config import load_config
from tests.journey.installation import (
    running_api,
    running_program,
    wait_for,
    wait_until_answers,
)

CLIPS, CLIPS_AT_ONCE = 40, 4
JOBS, JOBS_A_SECOND, CANCELED_EVERY = 200, 50, 10


def generate(client, number):
    body = {"prompt": f"clip {number}", "duration": 1, "resolution": "240p"}
    # Longer than the API itself waits: it is to answer, not the test to give up.
    return client.post("/generate", json=body, timeout=400)


def frames_in(url):
    with av.open(io.BytesIO(httpx.get(url).raise_for_status().content)) as video:
        return sum(1 for _ in video.decode(video=0))


@pytest.mark.timeout(900)  # 40 real renders: a minute, and more where others want the cores
def test_forty_clips_in_bursts_of_four_are_all_rendered(client):
    replies = []
    with ThreadPoolExecutor(CLIPS_AT_ONCE) as callers:
        for first in range(0, CLIPS, CLIPS_AT_ONCE):
            burst = range(first, first + CLIPS_AT_ONCE)
            replies += callers.map(generate, [client] * CLIPS_AT_ONCE, burst)
    assert Counter(reply.status_code for reply in replies) == {200: CLIPS}
    clips = [reply.json() for reply in replies]
    assert [clip["metadata"]["prompt"] for clip in clips] == [f"clip {n}" for n in range(CLIPS)]
    assert len({clip["metadata"]["job_id"] for clip in clips}) == CLIPS
    assert {frames_in(clip["output_url"]) for clip in clips} == {17}


@pytest.fixture
def scripted(installation):
    """The real API and the real worker, whose render process needs no model and no time."""
    installation.write_config()
    key = client_key(load_config(installation.config_file)).secret
    worker = [str(Path(__file__).with_name("scripted_worker.py"))]
    with ExitStack() as running:
        api = running.enter_context(running_api(installation.config_file))
        running.enter_context(running_program(worker, installation.config_file, name="worker"))
        wait_until_answers(installation.url, api)
        yield running.enter_context(installation.client(key=key))


def submit_on_time(client, number, started):
    """The reply to one of many submissions, and to the cancel of every tenth."""
    time.sleep(max(0.0, started + number / JOBS_A_SECOND - time.monotonic()))
    accepted = client.post("/v1/jobs", json={"prompt": "ok"})
    if number % CANCELED_EVERY:
        return accepted, None
    return accepted, client.post(f"{accepted.headers['location']}/cancel")


def test_two_hundred_jobs_at_fifty_a_second_all_end_as_they_should(scripted):
    answered = Counter()
    scripted.event_hooks["response"].append(lambda reply: answered.update([reply.status_code]))
    started = time.monotonic()
    with ThreadPoolExecutor(16) as callers:
        replies = list(
            callers.map(lambda number: submit_on_time(scripted, number, started), range(JOBS))
        )
    assert {accepted.status_code for accepted, _ in replies} == {202}
    assert {cancel.status_code for _, cancel in replies if cancel is not None} <= {200, 409}
    assert len({accepted.json()["id"] for accepted, _ in replies}) == JOBS
    for accepted, cancel in replies:
        job = wait_for(
            scripted, accepted.json()["id"], "finished", "failed", "canceled", seconds=240
        )
        allowed = {None: {"finished"}, 200: {"canceled", "finished"}, 409: {"finished"}}
        assert job["status"] in allowed[cancel and cancel.status_code]
    assert set(answered) <= {200, 202, 409}
