"""Our Vertex AI does what Google's does: a test against it must not pass by its mistake."""

import base64
import os
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials
from PIL import Image

from services.emulators.vertex import API_KEY, LOCATION, PROJECT, vertex_server
from services.emulators.vertex_script import Failed, Filtered
from tests.unit.clips import frame_colour, opened

VEO = "publishers/google/models/veo-3.0-generate-001"
PAINTER = "publishers/google/models/gemini-2.5-flash-image"
PROMPT = {"instances": [{"prompt": "a zebra"}], "parameters": {"durationSeconds": 4}}
SUBMIT, POLL = f"/v1/{VEO}:predictLongRunning", f"/v1/{VEO}:fetchPredictOperation"


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, headers={"x-goog-api-key": API_KEY}) as client:
        yield client


@pytest.fixture
def token(server, tmp_path) -> str:
    server.write_key_file(tmp_path / "key.json")
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    credentials = Credentials.from_service_account_file(tmp_path / "key.json", scopes=scopes)
    credentials.refresh(Request())
    return credentials.token


def error_of(reply: httpx.Response) -> tuple[int, str]:
    error = reply.json()["error"]
    assert error["code"] == reply.status_code
    return error["code"], error["status"]


def film(http, server, body=PROMPT) -> dict:
    """The response of an operation that is done at once."""
    server.operations.polls = 0
    name = http.post(SUBMIT, json=body).json()["name"]
    return http.post(POLL, json={"operationName": name}).json()


# --- who asks


def test_nobody_asks_without_saying_who(server):
    path = f"/v1/projects/{PROJECT}/locations/{LOCATION}/{VEO}:predictLongRunning"
    for headers in ({}, {"Authorization": "Bearer made-up"}, {"Authorization": API_KEY}):
        reply = httpx.post(f"{server.url}{path}", json=PROMPT, headers=headers)
        assert error_of(reply) == (401, "UNAUTHENTICATED")


def test_a_wrong_api_key_is_400_at_google(server):
    reply = httpx.post(f"{server.url}{SUBMIT}", json=PROMPT, headers={"x-goog-api-key": "no"})
    assert error_of(reply) == (400, "INVALID_ARGUMENT")
    assert reply.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_a_token_is_good_for_its_project_only(server, token):
    headers = {"Authorization": f"Bearer {token}"}
    for project, status in ((PROJECT, 200), ("theirs", 403)):
        path = f"/v1beta1/projects/{project}/locations/{LOCATION}/{VEO}:predictLongRunning"
        assert httpx.post(f"{server.url}{path}", json=PROMPT, headers=headers).status_code == status
    assert httpx.post(f"{server.url}{SUBMIT}", json=PROMPT, headers=headers).status_code == 400


# --- what is asked


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"durationSeconds": 5}, 400),
        ({"durationSeconds": "4"}, 400),
        ({"aspectRatio": "1:1"}, 400),
        ({"resolution": "480p"}, 400),
        ({"storageUri": "https://elsewhere"}, 400),
        ({"sampleCount": 2}, 400),
        ({"personGeneration": "allow_all"}, 501),
    ],
)
def test_a_setting_that_is_wrong_or_not_known_is_never_ignored(http, parameters, status):
    body = {"instances": PROMPT["instances"], "parameters": parameters}
    assert http.post(SUBMIT, json=body).status_code == status


@pytest.mark.parametrize(
    ("instances", "status"),
    [
        ([], 400),
        ([{}], 400),
        ([{"prompt": "a"}, {"prompt": "b"}], 400),
        ([{"prompt": "a", "image": {"bytesBase64Encoded": "AA==", "mimeType": "image/gif"}}], 400),
        ([{"prompt": "a", "image": {"bytesBase64Encoded": "%", "mimeType": "image/png"}}], 400),
        ([{"prompt": "a", "image": {"mimeType": "image/png"}}], 400),
        ([{"prompt": "a", "video": {}}], 501),
    ],
)
def test_an_instance_that_is_wrong_or_not_known_is_refused(http, instances, status):
    assert http.post(SUBMIT, json={"instances": instances}).status_code == status


def test_veo_3_0_takes_no_last_frame(http):
    frame = {"bytesBase64Encoded": "AA==", "mimeType": "image/png"}
    body = {"instances": [{"prompt": "a zebra", "image": frame, "lastFrame": frame}]}
    assert error_of(http.post(SUBMIT, json=body)) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("publishers/google/models/veo-9:predictLongRunning", 404),
        ("publishers/google/models/gemini-2.5-flash:predictLongRunning", 404),
        (f"{VEO}:generateContent", 404),
        (f"{VEO}:cancel", 501),
        ("publishers/theirs/models/veo:predictLongRunning", 501),
    ],
)
def test_a_model_or_a_call_that_is_not_there_is_said_so(http, path, status):
    assert http.post(f"/v1/{path}", json=PROMPT).status_code == status


# --- operations


def test_a_clip_is_done_after_as_many_polls_as_were_set(server, http):
    server.operations.polls = 3
    name = http.post(SUBMIT, json=PROMPT).json()["name"]
    polls = [http.post(POLL, json={"operationName": name}).json() for _ in range(5)]
    assert [poll.get("done", False) for poll in polls] == [False] * 3 + [True] * 2
    assert polls[3] == polls[4]


def test_an_operation_is_of_its_model_and_gone_once_forgotten(server, http):
    name = http.post(SUBMIT, json=PROMPT).json()["name"]
    other = "/v1/publishers/google/models/veo-3.0-fast-generate-001:fetchPredictOperation"
    assert http.post(other, json={"operationName": name}).status_code == 400
    server.operations.forget()
    assert error_of(http.post(POLL, json={"operationName": name})) == (404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("parameters", "landscape", "streams"),
    [
        ({"durationSeconds": 4, "generateAudio": False}, True, ["video"]),
        ({"durationSeconds": 6, "aspectRatio": "9:16"}, False, ["video", "audio"]),
        ({"resolution": "1080p", "generateAudio": True}, True, ["video", "audio"]),
    ],
)
def test_a_clip_is_as_long_and_as_wide_as_asked_and_has_sound(
    server, http, parameters, landscape, streams
):
    done = film(http, server, {"instances": PROMPT["instances"], "parameters": parameters})
    (video,) = done["response"]["videos"]
    assert video["mimeType"] == "video/mp4"
    with opened(base64.b64decode(video["bytesBase64Encoded"])) as clip:
        assert [stream.type for stream in clip.streams] == streams
        seconds = parameters.get("durationSeconds", 8)
        assert clip.duration / 1e6 == pytest.approx(seconds, abs=0.05)
        assert len(list(clip.decode(video=0))) == seconds * 24
        assert (clip.streams[0].width > clip.streams[0].height) == landscape


def test_another_prompt_gives_another_clip_and_the_same_one_the_same(server, http):
    def clip(prompt):
        done = film(http, server, {"instances": [{"prompt": prompt}]})
        return base64.b64decode(done["response"]["videos"][0]["bytesBase64Encoded"])

    assert clip("a zebra") == clip("a zebra")
    assert frame_colour(clip("a zebra"), 0) != frame_colour(clip("a horse"), 0)


def test_filtered_and_failed_operations_are_worded_as_google_does(server, http):
    server.script.next_clip(Filtered())
    server.script.next_clip(Filtered(("why",)))
    server.script.next_clip(Failed(13, "It broke."))
    silent, told, failed = (film(http, server) for _ in range(3))
    assert set(silent["response"]) == {"@type"}
    assert told["response"]["raiMediaFilteredCount"] == 1
    assert told["response"]["raiMediaFilteredReasons"] == ["why"]
    assert failed["error"] == {"code": 13, "message": "It broke."}
    assert server.script.pending == 0


# --- pictures and texts


def test_a_picture_is_a_png_of_the_shape_that_was_asked_for(http):
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "16:9"}}
    body = {"contents": [{"parts": [{"text": "a zebra"}]}], "generationConfig": config}
    reply = http.post(f"/v1/{PAINTER}:generateContent", json=body).json()
    (part,) = (part for part in reply["candidates"][0]["content"]["parts"] if "inlineData" in part)
    with Image.open(BytesIO(base64.b64decode(part["inlineData"]["data"]))) as image:
        assert (image.format, image.size) == ("PNG", (1344, 768))


def test_a_shape_that_no_model_draws_is_refused(http):
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "2:1"}}
    body = {"contents": [{"parts": [{"text": "a zebra"}]}], "generationConfig": config}
    assert http.post(f"/v1/{PAINTER}:generateContent", json=body).status_code == 400


def test_a_text_without_a_shape_is_free(http):
    body = {"contents": [{"parts": [{"text": "a zebra"}]}]}
    reply = http.post(
        "/v1/publishers/google/models/gemini-2.5-flash:generateContent", json=body
    ).json()
    assert reply["candidates"][0]["finishReason"] == "STOP"


# --- the script


def test_each_line_of_the_script_befalls_one_request_of_its_call(server, http):
    server.script.fail("predictLongRunning", 429, retry_after="7")
    server.script.fail("fetchPredictOperation", 503)
    throttled = http.post(SUBMIT, json=PROMPT)
    assert error_of(throttled) == (429, "RESOURCE_EXHAUSTED")
    assert throttled.headers["Retry-After"] == "7"
    name = http.post(SUBMIT, json=PROMPT).json()["name"]
    assert error_of(http.post(POLL, json={"operationName": name})) == (503, "UNAVAILABLE")
    assert http.post(POLL, json={"operationName": name}).status_code == 200
    assert [asked.call for asked in server.script.asked] == [
        "predictLongRunning",
        "predictLongRunning",
        "fetchPredictOperation",
        "fetchPredictOperation",
    ]


def test_a_connection_is_hung_up_when_told_to(server, http):
    server.script.hang_up("predictLongRunning")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(SUBMIT, json=PROMPT)


def test_it_runs_by_itself_until_it_is_told_to_stop(tmp_path):
    key_file = tmp_path / "key.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "services.emulators.vertex", "--port=0", f"--key-file={key_file}"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    with process:
        url = process.stdout.readline().rpartition(" ")[2].strip()
        reply = httpx.post(f"{url}{SUBMIT}", json=PROMPT, headers={"x-goog-api-key": API_KEY})
        assert "/operations/" in reply.json()["name"]
        assert key_file.is_file()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
