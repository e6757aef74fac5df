import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.api.app import create_app
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile
from shared.errors import ModelUnavailable, PromptRefused, RenderCrashed
from shared.ports import Link
from tests.unit.api_under_test import PROMPT, VIDEO, assert_error, meanwhile, running_api


@pytest.fixture
def api(tmp_path):
    changes = {"worker": {"max_attempts": 1}, "generate": {"wait_seconds": 20}}
    with running_api(tmp_path, **changes) as api:
        yield api


@pytest.fixture
def impatient(tmp_path):
    with running_api(tmp_path, generate={"wait_seconds": 0.2}) as api:
        yield api


def generate(api, work, **body):
    """What a caller gets while a worker does something."""
    with meanwhile(work):
        return api.client.post("/generate", json={"prompt": PROMPT, **body})


def test_the_caller_waits_for_its_video(api):
    reply = generate(api, api.worker.render_next, duration=3, resolution="240p")
    assert reply.status_code == 200
    body = reply.json
    assert body["status"] == "success"
    job_id = body["metadata"].pop("job_id")
    seed = body["metadata"].pop("seed")
    assert body["metadata"] == {
        "prompt": PROMPT,
        "duration": 3,
        "generation_time_seconds": 1.5,
        "model": "wan2.1",
        "request_id": reply.headers["X-Request-ID"],
        "checkpoint": "wan2.1-demo",
        "resolution": "240p",
        "size": "832x480",
        "native_size": "416x240",
        "frames": 81,
        "fps": 16,
        "device": "cpu",
        "queue_seconds": 0.0,
        "phase_seconds": {"generation": 1.25},
    }
    assert api.wiring.store.get(job_id).request.seed == seed


def test_the_output_url_is_the_video_and_needs_no_key(api):
    body = generate(api, api.worker.render_next).json
    assert body["output_url"].startswith("http://localhost/outputs/")
    reply = api.anonymous.get(body["output_url"])
    assert reply.data == VIDEO
    reply.close()
    expires_at = datetime.fromisoformat(body["expires_at"])
    assert timedelta(seconds=3599) <= expires_at - api.clock.now <= timedelta(seconds=3600)


def test_no_video_travels_in_the_reply(api):
    assert len(generate(api, api.worker.render_next).data) < 2000


def test_five_seconds_at_480p_unless_it_says_otherwise(api):
    metadata = generate(api, api.worker.render_next).json["metadata"]
    assert (metadata["duration"], metadata["resolution"]) == (5, "480p")


def test_past_the_deadline_the_caller_is_sent_to_the_job(impatient):
    reply = impatient.client.post("/generate", json={"prompt": PROMPT})
    assert reply.status_code == 202
    assert reply.json["status"] == "queued"
    assert reply.headers["Location"] == f"/v1/jobs/{reply.json['id']}"
    assert impatient.client.get(reply.headers["Location"]).status_code == 200


def test_who_finds_no_seat_is_sent_to_the_job_at_once(tmp_path):
    with running_api(tmp_path, server={"threads": 1}, generate={"wait_seconds": 60}) as api:
        room = api.app.extensions["promptreel"].waiting_room
        with meanwhile(lambda: api.client.post("/generate", json={"prompt": "first"})):
            while api.jobs == 0:
                time.sleep(0.01)
            began = time.monotonic()
            reply = api.client.post("/generate", json={"prompt": "second"})
            assert reply.status_code == 202
            assert time.monotonic() - began < 5
            room.close()


def test_when_the_server_stops_whoever_waits_is_sent_to_the_job(api):
    room = api.app.extensions["promptreel"].waiting_room

    def stop():
        api.worker.claim_next()
        room.close()

    began = time.monotonic()
    reply = generate(api, stop)
    assert reply.status_code == 202
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (PromptRefused("The model refused the prompt. Rephrase it."), 422, "prompt_refused"),
        (RenderCrashed("The render process died. Submit the job again."), 502, "render_crashed"),
        (ModelUnavailable("The model is not there. Tell the operator."), 500, "model_unavailable"),
    ],
)
def test_a_failed_job_says_why_and_whose_fault_it_is(api, error, status, code):
    reply = generate(api, lambda: api.worker.fail_next(error))
    assert_error(reply, status, code, error.message)


def test_a_job_canceled_meanwhile_is_409(api):
    reply = generate(api, api.worker.cancel_next)
    assert_error(reply, 409, "job_canceled", "Submit it again")


def test_a_whole_number_may_be_written_with_a_point(api):
    """JSON has one kind of number: to a schema, 3.0 is an integer."""
    reply = generate(api, api.worker.render_next, duration=3.0)
    assert reply.json["metadata"]["duration"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"duration": 5}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \t\n"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": 10**3000}, "prompt"),
        ({"prompt": ["a cat"]}, "prompt"),
        ({"prompt": {"text": "a cat"}}, "prompt"),
        ({"prompt": True}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "a\0cat"}, "prompt"),
        ({"prompt": PROMPT, "duration": 0}, "duration"),
        ({"prompt": PROMPT, "duration": -1}, "duration"),
        ({"prompt": PROMPT, "duration": 6}, "duration"),
        ({"prompt": PROMPT, "duration": 10**3000}, "duration"),
        ({"prompt": PROMPT, "duration": "5"}, "duration"),
        ({"prompt": PROMPT, "duration": 5.5}, "duration"),
        ({"prompt": PROMPT, "duration": 1e30}, "duration"),
        ({"prompt": PROMPT, "duration": True}, "duration"),
        ({"prompt": PROMPT, "duration": None}, "duration"),
        ({"prompt": PROMPT, "resolution": "8k"}, "resolution"),
        ({"prompt": PROMPT, "resolution": ""}, "resolution"),
        ({"prompt": PROMPT, "resolution": 480}, "resolution"),
        ({"prompt": PROMPT, "resolution": None}, "resolution"),
        ({"prompt": PROMPT, "seed": 7}, "seed"),
        ({"prompt": PROMPT, "": 7}, ""),
    ],
)
def test_a_wrong_field_is_422_and_named(api, body, field):
    reply = api.client.post("/generate", json=body)
    assert_error(reply, 422, "invalid_request", field)
    assert reply.json["error"].get("field", "") == field
    assert api.jobs == 0


def test_all_wrong_fields_are_named_at_once(api):
    reply = api.client.post("/generate", json={"duration": "5", "seed": 7})
    named = [problem["field"] for problem in reply.json["error"]["details"]]
    assert named == ["prompt", "duration", "seed"]


def test_what_was_sent_is_not_sent_back(api):
    body = {"prompt": ["the wrong thing"], "duration": "the wrong thing", "resolution": "the wrong"}
    assert "the wrong" not in api.client.post("/generate", json=body).text


def test_the_same_key_and_body_is_the_same_video(api):
    headers = {"Idempotency-Key": "order-17"}
    with meanwhile(api.worker.render_next):
        first = api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    # The defaults, spelled out, are the same request.
    again = {"prompt": PROMPT, "duration": 5, "resolution": "480p"}
    second = api.client.post("/generate", json=again, headers=headers)
    assert first.json["metadata"] == second.json["metadata"]
    assert api.jobs == 1


def test_the_same_key_with_another_body_is_409(api):
    headers = {"Idempotency-Key": "order-17"}
    with meanwhile(api.worker.render_next):
        api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    reply = api.client.post("/generate", json={"prompt": PROMPT, "duration": 3}, headers=headers)
    assert_error(reply, 409, "idempotency_conflict", "Send a new key")
    assert api.jobs == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a\tb"])
def test_an_unfit_idempotency_key_is_refused(api, key):
    headers = {"Idempotency-Key": key}
    reply = api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    assert_error(reply, 422, "invalid_request", "Idempotency-Key")
    assert api.jobs == 0


class PublicFiles:
    """An artifact store whose links never expire."""

    def link(self, key, *, expires_in_seconds, now):  # noqa: ARG002 - the port's
        return Link(url=f"https://files.example/{key}", expires_at=None)


def test_a_public_file_expires_with_its_retention(api):
    headers = {"Idempotency-Key": "order-17"}
    with meanwhile(api.worker.render_next):
        api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    wiring = replace(api.wiring, artifacts=PublicFiles())
    client = create_app(wiring, KeyRing(KeyFile(api.key_file))).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {api.key}"
    body = client.post("/generate", json={"prompt": PROMPT}, headers=headers).json
    assert body["output_url"].startswith("https://files.example/videos/")
    assert datetime.fromisoformat(body["expires_at"]) == api.clock.now + timedelta(days=7)
    path = f"/v1/jobs/{body['metadata']['job_id']}/artifact"
    assert client.get(path).json["expires_in"] == 0


def test_the_link_of_an_earlier_call_ends_with_its_file(api):
    headers = {"Idempotency-Key": "order-17"}
    with meanwhile(api.worker.render_next):
        api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    ended_at = api.clock.now
    api.clock.advance(7 * 24 * 3600 - 100)
    body = api.client.post("/generate", json={"prompt": PROMPT}, headers=headers).json
    left = ended_at + timedelta(days=7) - datetime.fromisoformat(body["expires_at"])
    assert timedelta(0) <= left < timedelta(seconds=1)

    api.clock.advance(100)
    reply = api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    assert_error(reply, 410, "artifact_expired", "Submit the job again")


def test_the_video_of_an_earlier_call_past_its_retention_is_410(api):
    headers = {"Idempotency-Key": "order-17"}
    with meanwhile(api.worker.render_next):
        api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    api.clock.advance(8 * 24 * 3600)
    api.wiring.lifecycle.sweep()
    reply = api.client.post("/generate", json={"prompt": PROMPT}, headers=headers)
    assert_error(reply, 410, "artifact_expired", "Submit the job again")
