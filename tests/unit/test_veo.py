"""Veo 3 over the wire: what is ordered, what comes back, and what each error means to a caller."""

from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image

from services.emulators.vertex import API_KEY, PROJECT, vertex_server
from services.emulators.vertex_script import Failed
from services.gpu_worker.backends.veo import Done, OperationLost, Pending, Veo, VeoRequest
from shared.adapters.vertex.still import Still
from shared.errors import (
    BackendUnavailable,
    InvalidRequest,
    ModelUnavailable,
)
from tests.unit.clips import frame_colour, opened
from tests.unit.vertex_under_test import (
    POLL,
    PROMPT,
    REQUEST,
    SUBMIT,
    Told,
    assert_discreet,
    connected,
    finished,
)


@pytest.fixture
def server():
    with vertex_server(polls=1) as running:
        yield running


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def veo(server, told):
    with connected(server, told) as vertex:
        yield Veo(vertex)


def still(colour, kind="PNG") -> Still:
    file = BytesIO()
    Image.new("RGB", (64, 36), colour).save(file, kind)
    return Still.of(file.getvalue())


# --- what is ordered and what comes back


def test_a_clip_is_pending_until_it_is_there_and_plays(veo):
    name = veo.submit(REQUEST)
    assert veo.poll(name) == Pending()
    done = veo.poll(name)
    assert done.content_type == "video/mp4"
    with opened(done.video) as clip:
        (stream,) = clip.streams
        assert (stream.type, stream.frames / stream.average_rate) == ("video", 4)
        assert stream.width > stream.height


def test_everything_that_can_be_asked_for_is_sent(server, veo):
    veo.submit(
        VeoRequest(
            prompt=PROMPT,
            negative_prompt="rain",
            first_frame=still("red"),
            last_frame=still("blue", "JPEG"),
            duration_seconds=6,
            aspect_ratio="9:16",
            resolution="1080p",
            seed=7,
            generate_audio=True,
            output_gcs_uri="gs://promptreel/segments",
            model="veo-3.1-generate-001",
        )
    )
    (asked,) = server.script.asked
    assert asked.path == "/v1beta1/publishers/google/models/veo-3.1-generate-001:predictLongRunning"
    assert asked.headers["X-Goog-Api-Key"] == API_KEY
    (instance,) = asked.body["instances"]
    assert instance["prompt"] == PROMPT
    assert instance["image"]["mimeType"] == "image/png"
    assert instance["lastFrame"]["mimeType"] == "image/jpeg"
    assert asked.body["parameters"] == {
        "sampleCount": 1,
        "negativePrompt": "rain",
        "durationSeconds": 6,
        "aspectRatio": "9:16",
        "resolution": "1080p",
        "seed": 7,
        "generateAudio": True,
        "storageUri": "gs://promptreel/segments",
    }


def test_a_plain_request_sends_no_setting_that_nobody_chose(server, veo):
    veo.submit(VeoRequest(prompt=PROMPT))
    (asked,) = server.script.asked
    assert asked.body["instances"] == [{"prompt": PROMPT}]
    assert asked.body["parameters"] == {
        "sampleCount": 1,
        "durationSeconds": 8,
        "aspectRatio": "16:9",
        "resolution": "720p",
        "generateAudio": False,
    }


def test_a_clip_begins_and_ends_with_the_frames_that_are_given(veo):
    request = replace(
        REQUEST,
        model="veo-3.1-generate-001",
        first_frame=still((200, 30, 30)),
        last_frame=still((30, 30, 200)),
    )
    clip = finished(veo, request).video
    assert frame_colour(clip, 0) == pytest.approx((200, 30, 30), abs=8)
    assert frame_colour(clip, -1) == pytest.approx((30, 30, 200), abs=8)


def test_a_clip_for_a_bucket_is_stored_and_named():
    stored = {}
    with vertex_server(polls=0, store=stored.__setitem__) as server, connected(server) as vertex:
        done = finished(Veo(vertex), replace(REQUEST, output_gcs_uri="gs://promptreel/job_1/"))
    assert done.video.startswith("gs://promptreel/job_1/")
    with opened(stored[done.video]) as clip:
        assert clip.duration == 4_000_000


def test_a_service_account_asks_with_a_token_of_its_own(server, tmp_path):
    server.write_key_file(tmp_path / "key.json")
    with connected(
        server, api_key=None, project=PROJECT, credentials_file=tmp_path / "key.json"
    ) as vertex:
        assert finished(Veo(vertex)).video
    assert {asked.headers["Authorization"][:12] for asked in server.script.asked} == {
        "Bearer ya29."
    }
    assert server.script.asked[0].path.startswith(
        f"/v1beta1/projects/{PROJECT}/locations/us-central1/publishers/google/models/"
    )


def test_after_a_crash_another_process_polls_the_operation_that_was_saved(server):
    with connected(server) as vertex:
        saved = Veo(vertex).submit(REQUEST)
    with connected(server) as another:
        veo = Veo(another)
        assert veo.poll(saved) == Pending()
        assert isinstance(veo.poll(saved), Done)
        # And once more: the answer may have got lost.
        assert isinstance(veo.poll(saved), Done)
    assert [asked.call for asked in server.script.asked] == [SUBMIT, POLL, POLL, POLL]


# --- what is refused before anybody is asked


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"duration_seconds": 5}, "duration"),
        ({"duration_seconds": 9}, "duration"),
        ({"aspect_ratio": "1:1"}, "aspect_ratio"),
        ({"resolution": "480p"}, "resolution"),
        ({"prompt": "  "}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"last_frame": Still(b"", "image/png")}, "image"),
    ],
)
def test_what_veo_cannot_make_is_refused_before_anything_is_sent(server, veo, change, field):
    with pytest.raises(InvalidRequest) as refused:
        veo.submit(replace(REQUEST, **change))
    assert refused.value.field == field
    assert server.script.asked == []


def test_a_refused_duration_names_those_that_can_be_had(veo):
    with pytest.raises(InvalidRequest, match="4, 6, 8 seconds"):
        veo.submit(replace(REQUEST, duration_seconds=5))


def test_a_last_frame_needs_another_model_than_veo_3_0(server, veo):
    frame = still("red")
    older = replace(REQUEST, model="veo-3.0-generate-001")
    with pytest.raises(ModelUnavailable, match=r"vertex\.veo_model"):
        veo.submit(replace(older, first_frame=frame, last_frame=frame))
    assert server.script.asked == []


def test_an_image_is_a_png_a_jpeg_or_a_webp():
    with pytest.raises(InvalidRequest):
        Still.of(b"GIF89a")


# --- answers that cannot be used


ODD_ANSWERS = [[], {}, "yes", 7, None, {"name": 7}, {"name": "../../other"}, {"done": True}]


@pytest.mark.parametrize("body", ODD_ANSWERS)
def test_an_answer_without_an_operation_is_tried_once_more(server, veo, told, body):
    server.script.say(SUBMIT, body)
    assert veo.submit(REQUEST)
    assert told.slept_seconds == [1]
    server.script.say(SUBMIT, body, count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        veo.submit(REQUEST)
    assert_discreet(unavailable.value)
    assert server.script.pending == 0


@pytest.mark.parametrize(
    "body",
    [
        "yes",
        {},
        {"done": True},
        {"done": True, "response": {"videos": [{}]}},
        {"done": True, "response": {"videos": [None]}},
        {"done": True, "response": {"videos": [{"gcsUri": "https://elsewhere/clip.mp4"}]}},
        {"done": True, "response": {"videos": [{"bytesBase64Encoded": "%"}]}},
        {"done": True, "response": {"videos": [{"bytesBase64Encoded": "Tm90IGEgY2xpcC4="}]}},
        {"done": "perhaps"},
    ],
)
def test_a_clip_that_cannot_be_read_is_asked_for_once_more(server, veo, told, body):
    name = veo.submit(REQUEST)
    server.script.say(POLL, body, count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        veo.poll(name)
    assert_discreet(unavailable.value)
    assert told.slept_seconds == [1]
    assert veo.poll(name) == Pending()


@pytest.mark.parametrize("call", [SUBMIT, POLL])
def test_half_an_answer_is_asked_for_once_more(server, veo, told, call):
    server.script.babble(call)
    assert isinstance(finished(veo), Done)
    assert told.slept_seconds == [1]


# --- operations that give no clip


def test_an_operation_that_vanished_asks_for_a_new_one(server, veo, told):
    name = veo.submit(REQUEST)
    server.operations.forget()
    with pytest.raises(OperationLost) as lost:
        veo.poll(name)
    assert_discreet(lost.value)
    assert told.slept_seconds == []
    assert isinstance(finished(veo), Done)


@pytest.mark.parametrize("code", [1, 2, 4, 8, 10, 13, 14, 15])
def test_an_operation_that_failed_by_chance_asks_for_a_new_one(server, veo, code):
    server.script.next_clip(Failed(code, PROMPT))
    with pytest.raises(OperationLost) as lost:
        finished(veo)
    assert lost.value.retry
    assert_discreet(lost.value)
    assert isinstance(finished(veo), Done)


@pytest.mark.parametrize("code", [3, 5, 7, 16])
def test_an_operation_that_would_fail_again_is_the_operators(server, veo, code):
    server.script.next_clip(Failed(code, "The bucket is not there."))
    with pytest.raises(ModelUnavailable) as unavailable:
        finished(veo)
    assert_discreet(unavailable.value)


@pytest.mark.parametrize("name", ["", "operations/1", "https://elsewhere/operations/1", "a/../b"])
def test_a_name_that_is_no_operation_is_never_sent(server, veo, name):
    with pytest.raises(OperationLost):
        veo.poll(name)
    assert server.script.asked == []
