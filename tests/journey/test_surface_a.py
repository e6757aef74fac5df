"""Surface A of the contract, a test a line, over HTTP against `promptreel up`."""

import io
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import av
import httpx
import pytest


@pytest.fixture(scope="module")
def generated(client):
    """One whole clip as the document asks for it: five seconds at 480p, by default."""
    return client.post("/generate", json={"prompt": "robot cat fight"})


@pytest.fixture(scope="module")
def short(client):
    body = {"prompt": "anime girl with sword", "duration": 1, "resolution": "240p"}
    return client.post("/generate", json=body).raise_for_status().json()


def test_a_prompt_alone_gives_five_seconds_at_480p(generated):
    assert generated.status_code == 200
    metadata = generated.json()["metadata"]
    assert metadata["duration"] == 5
    assert metadata["resolution"] == "480p"
    assert metadata["size"] == "832x480"


def test_the_reply_is_the_documented_one(short):
    assert short["status"] == "success"
    assert short["output_url"].startswith(("http://", "https://"))
    expires_at = datetime.fromisoformat(short["expires_at"])
    assert timedelta(minutes=50) < expires_at - datetime.now(UTC) < timedelta(minutes=70)
    metadata = short["metadata"]
    assert metadata["prompt"] == "anime girl with sword"
    assert metadata["duration"] == 1
    assert metadata["model"] == "wan2.1"
    assert metadata["request_id"]
    assert 0 < metadata["generation_time_seconds"] < 60
    assert metadata["native_size"] == "416x240"


def test_the_output_url_is_the_video_and_needs_no_key(generated):
    reply = httpx.get(generated.json()["output_url"])
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as video:
        stream = video.streams.video[0]
        assert (stream.width, stream.height) == (832, 480)
        assert stream.average_rate == 16
        assert sum(1 for _ in video.decode(stream)) == 81


def test_no_video_travels_in_json(generated):
    assert len(generated.content) < 2000


def test_a_part_of_the_video_can_be_asked_for(short):
    whole = httpx.get(short["output_url"])
    part = httpx.get(short["output_url"], headers={"Range": "bytes=4-11"})
    assert part.status_code == 206
    assert part.content == whole.content[4:12]
    assert part.headers["content-range"] == f"bytes 4-11/{len(whole.content)}"


def test_a_changed_link_is_refused(short):
    forged = short["output_url"].replace("signature=", "signature=0")
    reply = httpx.get(forged)
    assert reply.status_code == 403
    assert "new link" in reply.json()["error"]["message"]


def test_a_prolonged_link_is_refused(short):
    expires = parse_qs(urlsplit(short["output_url"]).query)["expires"][0]
    prolonged = short["output_url"].replace(expires, str(int(expires) + 1))
    assert httpx.get(prolonged).status_code == 403


def test_an_expired_link_is_gone(client, short):
    path = f"/v1/jobs/{short['metadata']['job_id']}/artifact"
    # That a link lives until then is tested with a given clock: a busy machine may come too late here.
    link = client.get(path, params={"expires_in": 1}).json()["url"]
    while (reply := httpx.get(link)).status_code == 200:
        time.sleep(0.05)
    assert reply.status_code == 410
    assert "expired" in reply.json()["error"]["message"]


def test_the_owner_is_led_from_a_job_to_its_video(client, short):
    reply = client.get(f"/outputs/{short['metadata']['job_id']}")
    assert reply.status_code == 302
    assert httpx.get(reply.headers["location"]).headers["content-type"] == "video/mp4"


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a cat", "duration": 0}, "duration"),
        ({"prompt": "a cat", "duration": "5"}, "duration"),
        ({"prompt": "a cat", "resolution": "8k"}, "480p"),
        ({"prompt": "a cat", "backend": "veo3"}, "backend"),
    ],
)
def test_bad_fields_are_422_and_say_what_to_do(client, body, word):
    reply = client.post("/generate", json=body)
    assert reply.status_code == 422
    assert word in reply.text


def test_past_the_deadline_the_caller_is_sent_to_the_job(promptreel, client, impatient_url):
    body = {"prompt": "a slow cat", "duration": 5}
    headers = {"Authorization": f"Bearer {promptreel.key}"}
    reply = httpx.post(f"{impatient_url}/generate", json=body, headers=headers)
    assert reply.status_code == 202
    job_path = reply.headers["location"]
    assert job_path == f"/v1/jobs/{reply.json()['id']}"
    assert client.get(job_path).json()["status"] in ("queued", "started", "progress")
    client.post(f"{job_path}/cancel")


def test_a_key_is_needed(promptreel):
    reply = httpx.post(f"{promptreel.url}/generate", json={"prompt": "a cat"})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_health_tells_of_the_workers(promptreel):
    health = httpx.get(f"{promptreel.url}/health")
    assert health.status_code == 200
    body = health.json()
    assert body["status"] == "healthy"
    assert body["model_loaded"] is True
    assert body["gpu"] == "cpu"
