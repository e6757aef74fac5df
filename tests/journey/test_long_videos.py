"""Videos of several segments, with each backend, on one machine and as in the cloud."""

import io
import os
import time
from contextlib import contextmanager

import av
import httpx
import pytest
from PIL import Image

from tests.journey.cloud_installation import in_the_cloud, stored_files, wait_for_workers
from tests.journey.installation import (
    log_of,
    running_worker,
    submit,
    wait_for,
    wait_for_line,
)

PROMPT = "A red circle. It moves to the left. Then it grows."
SEGMENTS = 3
RESULTS = ["final_video.mp4", "poster.jpg", "seams.png", "spritesheet.jpg"]
# One frame a seam is shown once though both segments have it.
FRAMES = {"wan2.1": 17 * SEGMENTS - 2, "veo3": 24 * SEGMENTS}
ORDER, PICTURE = "predictLongRunning", "generateContent"

every_backend = pytest.mark.parametrize("backend", FRAMES)


@pytest.fixture
def long_videos(installation_with_vertex):
    installation_with_vertex.config |= {"generation_mode": "chaining", "segments": SEGMENTS}
    return installation_with_vertex


def asked(vertex, call):
    return [request for request in vertex.script.asked if request.call == call]


def assert_is_whole(client, job_id, backend, *, frames=None):
    """A video of all segments, and a sheet of its seams, as whoever made the job gets them."""
    video = client.get(f"/v1/jobs/{job_id}/artifact?redirect=true", follow_redirects=True).content
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        moments = [float(frame.pts * stream.time_base) for frame in container.decode(stream)]
        rate = int(stream.average_rate)
    assert len(moments) == (frames or FRAMES[backend])
    assert moments == pytest.approx([index / rate for index in range(len(moments))], abs=1e-3)
    link = client.get(f"/v1/jobs/{job_id}/artifact?kind=seams").raise_for_status().json()
    with Image.open(io.BytesIO(httpx.get(link["url"]).content)) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > sheet.height


def wait_until_nothing_is_left(state, job_id, *, seconds=60):
    """The worker removes a canceled job's parts after it has said that the job is canceled."""
    deadline = time.monotonic() + seconds
    while left := files_of(state, job_id):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def files_of(state, job_id):
    """Looked for by os.walk, which takes it calmly when folders vanish under it."""
    kept = [name for _, _, names in os.walk(state / "artifacts") for name in names]
    working = [str(folder) for folder in (state / "work").glob(f"*/{job_id}")]
    return [name for name in kept if not name.startswith(".")] + working


@every_backend
def test_three_segments_become_one_video_on_this_machine(long_videos, vertex, backend):
    long_videos.config["default_backend"] = backend
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        job = wait_for(client, job_id, "finished", "failed", seconds=150)
        assert job["status"] == "finished", log_of(client, job_id)
        assert_is_whole(client, job_id, backend)
        folder = long_videos.folder / "state" / "artifacts"
        stored = [file for file in folder.rglob("*") if file.is_file()]
        assert sorted(file.name for file in stored) == RESULTS
        assert len(asked(vertex, ORDER)) == (SEGMENTS if backend == "veo3" else 0)


@every_backend
def test_three_segments_become_one_video_in_the_cloud(
    long_videos, vertex, backend, pubsub_emulator_host
):
    """Two workers stand by: the job wakes the one whose backend it needs, and not the other."""
    long_videos.config["default_backend"] = backend
    with in_the_cloud(long_videos) as (client, cloud), both_workers(cloud):
        wait_for_workers(client, 2)
        job_id = submit(client, PROMPT)
        job = wait_for(client, job_id, "finished", "failed", seconds=150)
        assert job["status"] == "finished", log_of(client, job_id)
        device = "vertex ai" if backend == "veo3" else "cpu"
        assert f"attempt 1 of 3 on {device}" in log_of(client, job_id)
        assert_is_whole(client, job_id, backend)
        assert stored_files(cloud, job) == RESULTS


@contextmanager
def both_workers(cloud):
    file, environment = cloud.config_file, cloud.environment
    with (
        running_worker(file, "--backend", "wan2.1", name="gpu", **environment),
        running_worker(file, "--backend", "veo3", name="remote", **environment),
    ):
        yield


def test_a_worker_killed_in_segment_2_does_not_make_segment_1_again(long_videos):
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        wait_for_line(client, job_id, "segment 2/3: step 1/8")
        long_videos.process("services.gpu_worker.pull").kill()
        job = wait_for(client, job_id, "finished", "failed", seconds=150)
        log = log_of(client, job_id)
        assert job["status"] == "finished", log
        assert "attempt 2 of 3 on cpu" in log
        assert log.count("segment 1/3: step 8/8") == 1
        assert "segment 1/3: already there, not made again" in log
        assert_is_whole(client, job_id, "wan2.1")


def test_a_worker_killed_while_it_waits_for_veo_orders_nothing_twice(long_videos, vertex):
    long_videos.config["default_backend"] = "veo3"
    vertex.operations.polls = 40
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        wait_for_line(client, job_id, "segment 1/3: Ordered a clip")
        long_videos.process("services.gpu_worker.pull").kill()
        vertex.operations.polls = 2
        job = wait_for(client, job_id, "finished", "failed", seconds=60)
        assert job["status"] == "finished", log_of(client, job_id)
        assert len(asked(vertex, ORDER)) == SEGMENTS


def test_a_prompt_that_veo_filters_is_the_requesters_fault(long_videos, vertex):
    long_videos.config["default_backend"] = "veo3"
    vertex.script.fail(ORDER, 400, message="The prompt violates our usage guidelines.")
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        job = wait_for(client, job_id, "finished", "failed")
        assert (job["status"], job["error"]["code"]) == ("failed", "prompt_refused")


def test_the_fallback_takes_over_where_veo_is_not_available(long_videos, vertex):
    long_videos.config |= {"default_backend": "veo3", "fallback_backend": "wan2.1"}
    vertex.script.fail(ORDER, 503, count=100)
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        job = wait_for(client, job_id, "finished", "failed", seconds=150)
        log = log_of(client, job_id)
        assert job["status"] == "finished", log
        assert "attempt 1 of 3 on vertex ai" in log
        assert "attempt 1 of 3 on cpu" in log
        assert_is_whole(client, job_id, "wan2.1")


def test_keyframes_are_drawn_by_gemini_and_joined_by_veo(long_videos, vertex):
    long_videos.config |= {
        "default_backend": "veo3",
        "generation_mode": "keyframe",
        "planner": "gemini-2.5-flash",
        "image_generation_model": "gemini-2.5-flash-image-preview",
        "image_size": "1024x1024",
    }
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        job = wait_for(client, job_id, "finished", "failed", seconds=60)
        log = log_of(client, job_id)
        assert job["status"] == "finished", log
        assert "keyframe 3/3: drawn" in log
        assert len(asked(vertex, PICTURE)) == 1 + SEGMENTS  # a plan, and the pictures
        frames = [request.body["instances"][0] for request in asked(vertex, ORDER)]
        assert all("image" in frame for frame in frames)
        assert sum("lastFrame" in frame for frame in frames) == SEGMENTS - 1
        # Clips of 4 s, whole where they come to a keyframe, which is shown once; the last is cut to 1 s.
        assert_is_whole(client, job_id, "veo3", frames=96 + 95 + 24)


def test_a_cancel_ends_a_long_video_and_leaves_no_file(long_videos):
    with long_videos.running(), long_videos.client() as client:
        job_id = submit(client, PROMPT)
        wait_for_line(client, job_id, "segment 2/3: step 1/8")
        assert client.post(f"/v1/jobs/{job_id}/cancel").json() == {"ok": True}
        wait_for(client, job_id, "canceled", seconds=60)
        wait_until_nothing_is_left(long_videos.folder / "state", job_id)
