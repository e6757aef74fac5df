"""Surface D: what the `openai` client sends, and what it is told, with a worker of a few lines."""

import io

import pytest

from shared.errors import (
    ModelUnavailable,
    PromptRefused,
    QueueUnavailable,
    RenderCrashed,
    StoreUnavailable,
)
from shared.job import JobStatus, Phase
from tests.jobs import picture_job
from tests.unit.api_under_test import PROMPT, VIDEO, running_api
from tests.unit.generations_under_test import photograph, picture

VIDEOS = "/v1/videos"
FORM = "multipart/form-data"
POLL_AFTER = "openai-poll-after-ms"


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def create(api, **fields):
    """As the client does: a form, in which everything is text."""
    form = {"prompt": PROMPT} | {name: str(value) for name, value in fields.items()}
    return api.client.post(VIDEOS, data=form, content_type=FORM)


def created(api, **fields):
    reply = create(api, **fields)
    assert reply.status_code == 200, reply.text
    return reply.json


def read(api, video_id):
    reply = api.client.get(f"{VIDEOS}/{video_id}")
    assert reply.status_code == 200, reply.text
    return reply.json


def request_of(api, video):
    return api.wiring.store.get(video["id"]).request


def assert_refused(reply, status, code, *words, param=None):
    """The one shape of an error, as the client reads it."""
    assert reply.status_code == status, reply.text
    assert set(reply.json) == {"error"}
    error = reply.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    assert error["message"].endswith(".")
    for word in words:
        assert word in error["message"], error
    assert reply.headers["X-Request-ID"]


# --- create


def test_a_video_is_ordered_at_once_and_told_of_as_the_client_expects(api):
    reply = create(api, seconds=2, size="416x240")
    video = reply.json
    assert video == {
        "id": video["id"],
        "object": "video",
        "created_at": int(api.clock.now.timestamp()),
        "completed_at": None,
        "expires_at": None,
        "model": "wan2.1-demo",
        "progress": 0,
        "prompt": PROMPT,
        "remixed_from_video_id": None,
        "seconds": "2",
        "size": "416x240",
        "status": "queued",
        "error": None,
    }
    assert reply.headers[POLL_AFTER] == "1000"


def test_json_says_the_same_as_a_form(api):
    body = {"prompt": PROMPT, "seconds": 2, "seed": "7", "guidance_scale": 4}
    video = api.client.post(VIDEOS, json=body).json
    assert video["seconds"] == "2"
    assert request_of(api, video) == request_of(
        api, created(api, seconds="2", seed=7, guidance_scale="4.0")
    )


def test_every_field_is_heeded(api):
    video = created(
        api,
        model="wan2.1-demo",
        size="416x240",
        quality="balanced",
        seed=7,
        negative_prompt="blurred",
        num_inference_steps=4,
        guidance_scale=3.5,
        num_frames=9,
        fps=16,
    )
    request = request_of(api, video)
    assert (request.model, request.resolution, request.preset) == (
        "wan2.1-demo",
        "240p",
        "balanced",
    )
    assert (request.seed, request.negative_prompt) == (7, "blurred")
    assert (request.steps, request.guidance_scale, request.frames) == (4, 3.5, 9)
    assert video["seconds"] == "0.5"


def test_a_whole_number_may_be_written_with_a_point(api):
    """JSON has one kind of number: to a schema, 5.0 is an integer."""
    fields = {"prompt": PROMPT, "seconds": 2.0, "seed": 7.0, "fps": 16.0}
    video = api.client.post(VIDEOS, json=fields).json
    assert video["seconds"] == "2"
    assert request_of(api, video).seed == 7


def test_of_several_segments_the_whole_is_told(tmp_path):
    long = {"generation_mode": "chaining", "crossfade_seconds": 0.5, "segments": 3}
    with running_api(tmp_path, **long) as api:
        assert created(api)["seconds"] == "14"
        assert created(api, seconds=5)["seconds"] == "5"


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"seconds": "6"}, "seconds", "1 to 5"),
        ({"seconds": "2.5"}, "seconds", "whole number"),
        ({"seconds": "soon"}, "seconds", "whole number"),
        ({"size": "480p"}, "size", "832x480, 416x240"),
        ({"model": "sora-2"}, "model", "has the models wan2.1-demo"),
        ({"quality": "best"}, "quality", "reference, balanced, fast"),
        ({"quality": "fast", "num_inference_steps": "9"}, "num_inference_steps", "made for 3"),
        ({"quality": "fast", "guidance_scale": "3"}, "guidance_scale", "no guidance"),
        ({"guidance_scale": "nan"}, "guidance_scale", "finite"),
        ({"num_frames": "16"}, "num_frames", "multiple of 4, plus one"),
        ({"num_frames": "17", "seconds": "1"}, "num_frames", "not both"),
        ({"fps": "24"}, "fps", "16 frames a second"),
        ({"seed": "-1"}, "seed", "0 to"),
        ({"prompt": " "}, "prompt", "empty"),
        ({"prompt": "x" * 2001}, "prompt", "shorten it"),
        ({"negative_prompt": "x" * 2001}, "negative_prompt", "shorten it"),
        ({"n": "2"}, "n", "not a field"),
    ],
)
def test_a_bad_field_is_named_and_leaves_no_job(api, fields, param, word):
    assert_refused(create(api, **fields), 400, "invalid_request", word, param=param)
    assert api.jobs == 0


@pytest.mark.parametrize("value", [True, 2.5, None, [5], {"a": 1}])
def test_json_numbers_are_whole_where_they_must_be(api, value):
    reply = api.client.post(VIDEOS, json={"prompt": PROMPT, "num_frames": value})
    if value is None:
        assert reply.status_code == 200
    else:
        assert_refused(reply, 400, "invalid_request", "whole number", param="num_frames")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", "malformed_body"),
        (b"[]", "application/json", "malformed_body"),
        (b"prompt=a", "application/x-www-form-urlencoded", "unsupported_content_type"),
        (b"x" * 30_000_000, "application/json", "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_read_is_400_as_the_client_knows_it(api, body, content_type, code):
    reply = api.client.post(VIDEOS, data=body, content_type=content_type)
    assert_refused(reply, 400, code)


def test_a_missing_prompt_is_named(api):
    assert_refused(
        api.client.post(VIDEOS, json={}), 400, "invalid_request", "missing", param="prompt"
    )


def test_the_same_key_is_the_same_video_and_another_body_is_a_conflict(api):
    headers = {"Idempotency-Key": "k"}
    first, again = (
        api.client.post(VIDEOS, json={"prompt": PROMPT}, headers=headers) for _ in range(2)
    )
    assert first.json["id"] == again.json["id"]
    reply = api.client.post(VIDEOS, json={"prompt": "a boat"}, headers=headers)
    assert_refused(reply, 409, "idempotency_conflict")
    assert_refused(
        api.client.post(
            f"{VIDEOS}/{first.json['id']}/remix", json={"prompt": PROMPT}, headers=headers
        ),
        409,
        "idempotency_conflict",
    )


def test_one_too_many_is_told_when_to_come_back(tmp_path):
    with running_api(tmp_path, limits={"queued_per_owner": 1}) as api:
        created(api)
        reply = create(api)
        assert_refused(reply, 429, "queue_full")
        assert reply.json["error"]["type"] == "rate_limit_error"
        assert int(reply.headers["Retry-After"]) > 0


def test_a_store_that_is_down_is_503_in_the_clients_words(api):
    reply = api.with_silent("store", StoreUnavailable).get(f"{VIDEOS}/job_1")
    assert_refused(reply, 503, "store_unavailable")
    assert reply.json["error"]["type"] == "server_error"
    assert int(reply.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (PromptRefused, 422, "invalid_request_error"),
        (QueueUnavailable, 503, "server_error"),
        (ModelUnavailable, 500, "server_error"),
        (KeyError, 500, "server_error"),
    ],
)
def test_whatever_is_raised_is_told_in_the_clients_words(api, error, status, kind):
    reply = api.with_silent("store", error).get(f"{VIDEOS}/job_1")
    assert reply.status_code == status
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}
    assert reply.json["error"]["type"] == kind
    assert "SQLITE" not in reply.text or status == 422


def test_without_a_key_nothing_is_told(api):
    for reply in (api.anonymous.get(VIDEOS), api.anonymous.post(VIDEOS, data=b"{")):
        assert_refused(reply, 401, "unauthenticated")
        assert reply.json["error"]["type"] == "authentication_error"


# --- a picture to begin with


def create_from(api, content, **fields):
    file = (io.BytesIO(content), "boat.png")
    form = {"prompt": PROMPT, "input_reference": file} | fields
    return api.client.post(VIDEOS, data=form, content_type=FORM)


def test_a_video_may_begin_with_a_picture_which_is_kept_for_it(api):
    video = create_from(api, picture()).json
    key = request_of(api, video).first_frame.key
    assert key.endswith(f"{video['id']}/parts/first_frame.png")
    assert key in api.wiring.artifacts.keys("videos")


def test_a_photograph_is_not_too_large(api):
    content = photograph()
    assert len(content) > 200_000
    assert create_from(api, content).status_code == 200


def test_the_same_key_with_another_picture_is_a_conflict(api):
    client = api.client
    client.environ_base["HTTP_IDEMPOTENCY_KEY"] = "k"
    replies = []
    for color in ("teal", "teal", "navy"):
        file = (io.BytesIO(picture(color=color)), "boat.png")
        form = {"prompt": PROMPT, "input_reference": file}
        replies.append(client.post(VIDEOS, data=form, content_type=FORM))
    assert replies[0].json["id"] == replies[1].json["id"]
    assert_refused(replies[2], 409, "idempotency_conflict")


@pytest.mark.parametrize("content", [b"", b"no picture", picture()[:50]])
def test_what_is_no_picture_is_refused_by_its_field(api, content):
    reply = create_from(api, content)
    assert_refused(reply, 400, "invalid_request", "JPEG", param="input_reference")
    assert api.jobs == 0


def test_a_picture_is_a_file_and_no_address(api):
    body = {"prompt": PROMPT, "input_reference": {"image_url": "https://example.com/boat.png"}}
    reply = api.client.post(VIDEOS, json=body)
    assert_refused(reply, 400, "invalid_request", "must be a file", param="input_reference")


def test_a_picture_where_none_can_be_begun_with_says_what_is_missing(tmp_path):
    with running_api(tmp_path, models={"wan2.1-demo": {"dir": "m"}}) as api:
        reply = create_from(api, picture())
        words = "models.wan2.1-demo.image_to_video"
        assert_refused(reply, 400, "invalid_request", words, param="input_reference")


# --- read


def test_a_video_is_followed_to_its_end(api):
    video_id = created(api)["id"]
    job = api.worker.claim_next()
    assert read(api, video_id)["status"] == "in_progress"
    api.wiring.lifecycle.report(
        video_id, token=job.lease.token, phase=Phase.GENERATION, fraction=0.5
    )
    reply = api.client.get(f"{VIDEOS}/{video_id}")
    assert (reply.json["status"], reply.json["progress"]) == ("in_progress", 45)
    assert reply.headers[POLL_AFTER] == "1000"
    api.clock.advance(9)
    api.worker.complete(job)
    reply = api.client.get(f"{VIDEOS}/{video_id}")
    assert (reply.json["status"], reply.json["progress"]) == ("completed", 100)
    assert reply.json["completed_at"] == int(api.clock.now.timestamp())
    assert reply.json["expires_at"] == reply.json["completed_at"] + 7 * 24 * 3600
    assert POLL_AFTER not in reply.headers


def test_a_failed_video_is_a_reply_and_not_an_error(api):
    video_id = created(api)["id"]
    api.worker.fail_next(PromptRefused("The prompt is refused. Change it."))
    video = read(api, video_id)
    assert (video["status"], video["completed_at"]) == ("failed", None)
    assert video["error"] == {
        "code": "prompt_refused",
        "message": "The prompt is refused. Change it.",
    }


def test_a_video_that_is_tried_again_has_not_failed(api):
    video_id = created(api)["id"]
    api.worker.fail_next(RenderCrashed("The render crashed."))
    video = read(api, video_id)
    assert (video["status"], video["error"]) == ("queued", None)


def test_a_canceled_video_has_failed_by_being_canceled(api):
    video_id = created(api)["id"]
    assert api.client.post(f"/v1/jobs/{video_id}/cancel").json == {"ok": True}
    video = read(api, video_id)
    assert (video["status"], video["error"]["code"]) == ("failed", "cancelled")


def test_a_job_of_another_surface_is_a_video_here(api):
    video_id = api.submit()
    assert read(api, video_id)["status"] == "queued"
    assert api.client.get(VIDEOS).json["first_id"] == video_id


@pytest.mark.parametrize(
    ("method", "tail"),
    [("get", ""), ("get", "/content"), ("delete", ""), ("post", "/remix")],
)
def test_another_owners_video_and_none_are_told_apart_to_nobody(api, method, tail):
    body = {"json": {"prompt": PROMPT}} if tail == "/remix" else {}
    for video_id in (created(api)["id"], "job_0"):
        reply = getattr(api.stranger, method)(f"{VIDEOS}/{video_id}{tail}", **body)
        assert_refused(reply, 404, "job_not_found")


# --- list


def listed(api, **query):
    reply = api.client.get(VIDEOS, query_string=query)
    assert reply.status_code == 200, reply.text
    return reply.json


def test_a_list_goes_on_where_the_page_before_ended(api):
    ids = []
    for _ in range(5):
        api.clock.advance(1)
        ids.append(created(api)["id"])
    first = listed(api, limit=2)
    assert [video["id"] for video in first["data"]] == [ids[4], ids[3]]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    last = listed(api, limit=3, after=ids[3])
    assert [video["id"] for video in last["data"]] == ids[2::-1]
    assert not last["has_more"]
    oldest_first = listed(api, limit=4, order="asc")
    assert [video["id"] for video in oldest_first["data"]] == ids[:4]
    assert listed(api, after=ids[4], order="asc")["data"] == []


def test_nobody_sees_anothers_videos_in_a_list(api):
    created(api)
    page = api.stranger.get(VIDEOS).json
    assert page == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


@pytest.mark.parametrize(
    ("query", "param"),
    [({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"order": "up"}, "order")],
)
def test_a_bad_page_is_refused(api, query, param):
    reply = api.client.get(VIDEOS, query_string=query)
    assert_refused(reply, 400, "invalid_request", param=param)


def test_a_page_after_no_video_of_ones_own_is_refused(api):
    reply = api.stranger.get(VIDEOS, query_string={"after": created(api)["id"]})
    assert_refused(reply, 404, "job_not_found", "no such job")


# --- content


@pytest.mark.parametrize(
    ("variant", "content_type"),
    [
        ({}, "video/mp4"),
        ({"variant": "video"}, "video/mp4"),
        ({"variant": "thumbnail"}, "image/jpeg"),
        ({"variant": "spritesheet"}, "image/jpeg"),
    ],
)
def test_content_is_behind_a_link_that_needs_no_key(api, variant, content_type):
    reply = api.client.get(f"{VIDEOS}/{api.finished()}/content", query_string=variant)
    assert reply.status_code == 302
    with api.anonymous.get(reply.headers["Location"]) as file:
        assert (file.status_code, file.content_type, file.data) == (200, content_type, VIDEO)


def test_there_is_no_content_before_the_video_nor_of_another_kind(api):
    video_id = created(api)["id"]
    reply = api.client.get(f"{VIDEOS}/{video_id}/content")
    assert_refused(reply, 404, "artifact_not_ready", "queued")
    reply = api.client.get(f"{VIDEOS}/{video_id}/content?variant=seams")
    assert_refused(reply, 400, "invalid_request", param="variant")


def test_content_past_its_retention_is_not_found(api):
    video_id = api.finished()
    api.clock.advance(8 * 24 * 3600)
    assert_refused(api.client.get(f"{VIDEOS}/{video_id}/content"), 404, "artifact_expired")
    assert read(api, video_id)["expires_at"] < api.clock.now.timestamp()


# --- remix


def test_a_remix_is_the_same_video_of_another_prompt(api):
    source = created(api, num_frames=9, seed=7, negative_prompt="blurred")
    reply = api.client.post(f"{VIDEOS}/{source['id']}/remix", json={"prompt": "a boat"})
    video = reply.json
    assert (reply.status_code, reply.headers[POLL_AFTER]) == (200, "1000")
    assert (video["prompt"], video["remixed_from_video_id"]) == ("a boat", source["id"])
    request = request_of(api, video)
    assert (request.frames, request.seed, request.negative_prompt) == (9, 7, "blurred")


@pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": PROMPT, "seed": 7}])
def test_a_remix_has_a_prompt_and_nothing_else(api, body):
    reply = api.client.post(f"{VIDEOS}/{created(api)['id']}/remix", json=body)
    assert reply.status_code == 400
    assert set(reply.json["error"]) == {"message", "type", "param", "code"}


# --- delete


def test_a_deleted_video_is_found_nowhere_any_more(api):
    video_id = api.finished()
    link = api.link(video_id)
    reply = api.client.delete(f"{VIDEOS}/{video_id}")
    assert reply.json == {"id": video_id, "object": "video.deleted", "deleted": True}
    for path in (
        f"{VIDEOS}/{video_id}",
        f"{VIDEOS}/{video_id}/content",
        f"/v1/jobs/{video_id}",
        f"/v1/jobs/{video_id}/artifact",
        f"/v1/jobs/{video_id}/logs",
        f"/outputs/{video_id}",
    ):
        assert api.client.get(path).status_code == 404, path
    assert api.client.get(link).status_code == 410
    assert_refused(api.client.delete(f"{VIDEOS}/{video_id}"), 404, "job_not_found")
    assert listed(api)["data"] == []


def test_a_running_video_that_is_deleted_is_stopped(api):
    video_id = created(api)["id"]
    job = api.worker.claim_next()
    assert api.client.delete(f"{VIDEOS}/{video_id}").status_code == 200
    heard = api.wiring.lifecycle.heartbeat(video_id, token=job.lease.token)
    assert heard.cancel_requested_at is not None
    ended = api.wiring.lifecycle.acknowledge_cancel(video_id, token=job.lease.token)
    assert ended.status is JobStatus.CANCELED
    assert_refused(api.client.get(f"{VIDEOS}/{video_id}"), 404, "job_not_found")


def test_a_key_is_used_up_when_its_video_is_deleted(api):
    """Nobody is led to a video that is found nowhere any more, and nothing is rendered twice."""
    headers = {"Idempotency-Key": "k"}
    first = api.client.post(VIDEOS, json={"prompt": PROMPT}, headers=headers).json
    api.client.delete(f"{VIDEOS}/{first['id']}")
    again = api.client.post(VIDEOS, json={"prompt": PROMPT}, headers=headers)
    assert_refused(again, 409, "idempotency_conflict", "deleted", "Send a new key")
    assert api.jobs == 1


def test_pictures_are_no_videos(api):
    api.wiring.store.admit(picture_job(id="job_9"))
    assert listed(api)["data"] == []
    assert_refused(api.client.get(f"{VIDEOS}/job_9"), 404, "job_not_found")
