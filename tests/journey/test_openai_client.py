"""The public `openai` client, as it is, against `promptreel up`."""

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import av
import openai
import pytest
from PIL import Image

from services.api.keys.sources import KeyFile, create_key
from tests.journey.installation import install, running_api, wait_for, wait_until_answers

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

PROMPT = "a lighthouse in the fog"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "openai_videos.py"
ORDER = "predictLongRunning"
SMALL = {"num_frames": 9, "num_inference_steps": 2}
LONG_RENDER = {"duration_seconds": 3, "resolution": "240p"}


def client_of(installation, *, retries=0):
    return openai.OpenAI(
        base_url=f"{installation.url}/v1", api_key=installation.key, max_retries=retries
    )


@pytest.fixture(scope="module")
def openai_client(promptreel):
    with client_of(promptreel) as client:
        yield client


@pytest.fixture(scope="module")
def completed(openai_client):
    return openai_client.videos.create_and_poll(
        prompt=PROMPT, model="wan2.1-demo", seconds="1", size="416x240"
    )


def small_video(client, **extra):
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body=SMALL | extra)
    assert video.status == "completed", video
    return video


def fetched(client, video, **variant):
    return client.videos.download_content(video.id, **variant).read()


def frames_in(content):
    with av.open(io.BytesIO(content)) as container:
        return sum(1 for _ in container.decode(video=0))


def first_colour(content):
    with av.open(io.BytesIO(content)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").mean(axis=(0, 1))


def distance(colour, other):
    return max(abs(one - another) for one, another in zip(colour, other, strict=True))


# --- the life of a video


def test_a_video_is_made_and_polled_to_its_end(completed):
    assert (completed.status, completed.progress, completed.error) == ("completed", 100, None)
    assert (completed.model, completed.seconds, completed.size) == ("wan2.1-demo", "1", "416x240")
    assert completed.created_at <= completed.completed_at < completed.expires_at
    assert completed.prompt == PROMPT


@pytest.mark.parametrize(
    ("variant", "shape"), [("thumbnail", "poster"), ("spritesheet", "spritesheet")]
)
def test_pictures_of_a_video_are_jpegs(openai_client, client, completed, variant, shape):
    content = fetched(openai_client, completed, variant=variant)
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.format == "JPEG"
    path = f"/v1/jobs/{completed.id}/artifact?redirect=true&kind={shape}"
    assert client.get(path, follow_redirects=True).content == content


def test_the_video_is_an_mp4_of_its_length_and_size(openai_client, completed):
    content = fetched(openai_client, completed)
    assert content == fetched(openai_client, completed, variant="video")
    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, int(stream.average_rate)) == (416, 240, 16)
    assert frames_in(content) == 17


def test_what_the_client_has_no_argument_for_is_heeded(openai_client):
    first, same, other, avoiding = (
        fetched(openai_client, small_video(openai_client, **extra))
        for extra in (
            {"seed": 7},
            {"seed": 7, "negative_prompt": ""},
            {"seed": 8},
            {"seed": 7, "negative_prompt": "fog", "guidance_scale": 9.5},
        )
    )
    assert sha256(first).digest() == sha256(same).digest()
    assert len({sha256(each).digest() for each in (first, other, avoiding)}) == 3
    assert frames_in(first) == 9


def test_a_remix_shows_another_prompt_and_names_its_source(openai_client, completed):
    remix = openai_client.videos.remix(completed.id, prompt="a harbour at night")
    remix = openai_client.videos.poll(remix.id)
    assert (remix.status, remix.prompt) == ("completed", "a harbour at night")
    assert remix.remixed_from_video_id == completed.id
    assert (remix.seconds, remix.size) == (completed.seconds, completed.size)


def test_the_pages_of_a_list_are_gone_through_in_both_orders(openai_client):
    made = [openai_client.videos.create(prompt=PROMPT, extra_body=SMALL).id for _ in range(5)]
    newest_first = [video.id for video in openai_client.videos.list(limit=2)]
    assert newest_first[:5] == made[::-1]
    oldest_first = [video.id for video in openai_client.videos.list(limit=2, order="asc")]
    assert oldest_first == newest_first[::-1]
    for video_id in made:
        openai_client.videos.delete(video_id)
    left = [video.id for video in openai_client.videos.list(limit=2)]
    assert left == newest_first[5:]


def test_a_deleted_video_is_gone(openai_client):
    video = small_video(openai_client)
    deleted = openai_client.videos.delete(video.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (video.id, "video.deleted", True)
    for ask in (openai_client.videos.retrieve, openai_client.videos.download_content):
        with pytest.raises(openai.NotFoundError):
            ask(video.id)


def test_a_video_begins_with_the_picture_it_was_given(installation_with_vertex):
    given = io.BytesIO()
    # Covers the frame; what is over, above and below, is cut off.
    Image.new("RGB", (1000, 1000), (200, 30, 40)).save(given, "PNG")
    with installation_with_vertex.running(), client_of(installation_with_vertex) as client:
        file = ("red.png", given.getvalue())
        video = client.videos.create_and_poll(
            prompt=PROMPT, input_reference=file, extra_body={"num_frames": 9, "seed": 7}
        )
        assert video.status == "completed", installation_with_vertex.log
        without = client.videos.create_and_poll(
            prompt=PROMPT, extra_body={"num_frames": 9, "seed": 7}
        )
        red = [200, 30, 40]
        assert distance(first_colour(fetched(client, video)), red) < 25
        assert distance(first_colour(fetched(client, without)), red) > 50
    state = installation_with_vertex.folder / "state"
    assert not list(state.rglob("first_frame*"))


# --- how it may end otherwise


def test_a_video_that_its_provider_refuses_has_failed(installation_with_vertex, vertex):
    installation_with_vertex.config["default_backend"] = "veo3"
    vertex.script.fail(ORDER, 400, message="The prompt violates our usage guidelines.")
    with installation_with_vertex.running(), client_of(installation_with_vertex) as client:
        video = client.videos.create_and_poll(prompt=PROMPT, model="veo3")
        assert (video.status, video.error.code) == ("failed", "prompt_refused")
        with pytest.raises(openai.NotFoundError):
            client.videos.download_content(video.id)


def test_a_video_that_is_canceled_while_it_is_polled_has_failed(promptreel, client):
    with ThreadPoolExecutor(1) as thread, client_of(promptreel) as polling:
        made = polling.videos.create(prompt=PROMPT, seconds="5")
        ending = thread.submit(polling.videos.poll, made.id)
        wait_for(client, made.id, "started", "progress")
        assert client.post(f"/v1/jobs/{made.id}/cancel").json() == {"ok": True}
        video = ending.result(60)
    assert (video.status, video.error.code) == ("failed", "cancelled")


def test_a_video_that_is_deleted_while_it_runs_is_stopped(promptreel, openai_client, client):
    running = openai_client.videos.create(prompt=PROMPT, seconds="5")
    wait_for(client, running.id, "progress")
    openai_client.videos.delete(running.id)
    # The device is free again: the next one does not wait for five seconds of video.
    assert small_video(openai_client).status == "completed"
    stored = (promptreel.folder / "state" / "artifacts").rglob(f"{running.id}/*.mp4")
    assert not list(stored)


def test_polling_goes_on_when_all_is_killed_and_started_again(installation):
    installation.config["render"] = LONG_RENDER
    with ThreadPoolExecutor(1) as thread:
        with installation.running(), installation.client() as watching:
            # Longer than a start takes, with pauses of up to eight seconds between its tries.
            patient = client_of(installation, retries=20)
            made = patient.videos.create(prompt=PROMPT)
            ending = thread.submit(patient.videos.poll, made.id)
            wait_for(watching, made.id, "progress")
            installation.cut_the_power()
        with installation.running():
            video = ending.result(120)
            assert (video.id, video.status) == (made.id, "completed")
            assert frames_in(fetched(patient, video)) == 49
        patient.close()


# --- errors


def test_each_refusal_is_an_error_of_the_clients_own(openai_client, promptreel):
    videos = openai_client.videos
    stranger = openai.OpenAI(
        base_url=f"{promptreel.url}/v1", api_key=f"pr_00000000_{'A' * 43}", max_retries=0
    )
    with pytest.raises(openai.BadRequestError) as bad:
        videos.create(prompt=PROMPT, seconds="99")
    assert (bad.value.param, bad.value.code) == ("seconds", "invalid_request")
    assert "1 to 5 seconds" in bad.value.message
    assert bad.value.request_id
    with pytest.raises(openai.AuthenticationError), stranger:
        stranger.videos.list()
    with pytest.raises(openai.NotFoundError) as missing:
        videos.retrieve("video_of_nobody")
    assert missing.value.type == "invalid_request_error"
    key = {"Idempotency-Key": "one"}
    made = videos.create(prompt=PROMPT, extra_headers=key)
    with pytest.raises(openai.ConflictError):
        videos.create(prompt="another one", extra_headers=key)
    videos.delete(made.id)


def test_limits_and_faults_of_ours_are_errors_of_the_clients_own(tmp_path, demo_model_dir):
    cramped = install(tmp_path, demo_model_dir, limits={"queued_per_owner": 1})
    cramped.write_config()
    key_file = tmp_path / "state" / "keys.json"
    key = create_key(KeyFile(key_file), "ada", datetime.now(UTC))
    with running_api(cramped.config_file) as process:
        wait_until_answers(cramped.url, process)
        with openai.OpenAI(base_url=f"{cramped.url}/v1", api_key=key, max_retries=0) as client:
            client.videos.create(prompt=PROMPT)
            with pytest.raises(openai.RateLimitError) as limited:
                client.videos.create(prompt=PROMPT)
            assert int(limited.value.response.headers["retry-after"]) > 0
            key_file.write_text("{")
            with pytest.raises(openai.InternalServerError) as fault:
                client.videos.list()
            assert fault.value.code == "internal_error"


# --- the example


def test_the_example_does_what_it_says(promptreel, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLE, "a lighthouse"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "OPENAI_BASE_URL": f"{promptreel.url}/v1",
            "OPENAI_API_KEY": promptreel.key,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is deleted" in done.stdout
    assert "a remix of job_" in done.stdout
    assert (tmp_path / "video.mp4").read_bytes()[4:8] == b"ftyp"
    for name in ("thumbnail.jpg", "spritesheet.jpg"):
        assert (tmp_path / name).read_bytes().startswith(b"\xff\xd8\xff")
