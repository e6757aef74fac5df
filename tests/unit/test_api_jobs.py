from datetime import datetime

import pytest

from shared.errors import PromptRefused, RenderCrashed
from shared.job import Phase
from tests.unit.api_under_test import PROMPT, VIDEO, assert_error, running_api

WEEK_SECONDS = 7 * 24 * 3600  # how long a file is kept
UNKNOWN = f"job_{'0' * 32}"
# A path, and what it is asked with.
ROUTES = [
    ("GET", ""),
    ("GET", "/artifact"),
    ("GET", "/logs"),
    ("GET", "/events"),
    ("POST", "/cancel"),
]


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def post(api, body, **headers):
    return api.client.post("/v1/jobs", json=body, headers=headers)


def read(api, job_id):
    return api.client.get(f"/v1/jobs/{job_id}").json


# --- create


def test_a_prompt_is_accepted_at_once_with_its_location(api):
    reply = post(api, {"prompt": PROMPT})
    assert reply.status_code == 202
    assert reply.json == {"id": reply.json["id"], "status": "queued"}
    assert reply.headers["Location"] == f"/v1/jobs/{reply.json['id']}"


def test_the_request_wins_over_the_configured_prompt_and_sets_nothing_else(tmp_path):
    with running_api(tmp_path, prompt="from the file") as api:
        request = api.wiring.store.get(api.submit("from the caller")).request
    assert request.prompt == "from the caller"
    assert (request.model, request.duration_seconds, request.resolution) == (
        "wan2.1-demo",
        5,
        "480p",
    )


def test_a_configured_prompt_does_not_stand_in_for_a_missing_one(tmp_path):
    with running_api(tmp_path, prompt="from the file") as api:
        assert_error(post(api, {}), 400, "invalid_request", "`prompt` is missing")
        assert api.jobs == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "\x1c"}, "prompt"),
        ({"prompt": "\x07 \x85\ufeff"}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": 10**3000}, "prompt"),
        ({"prompt": False}, "prompt"),
        ({"prompt": ["a cat"]}, "prompt"),
        ({"prompt": {"prompt": "a cat"}}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "a\0cat"}, "prompt"),
        ({"prompt": PROMPT, "duration": 5}, "duration"),
        ({"prompt": PROMPT, "model": "veo3"}, "model"),
        ({"prompt": PROMPT, "Prompt": PROMPT}, "Prompt"),
    ],
)
def test_a_bad_prompt_is_400_and_says_what_to_do(api, body, field):
    reply = post(api, body)
    assert_error(reply, 400, "invalid_request", "rompt" if field == "prompt" else field)
    assert reply.json["error"]["field"] == field
    assert api.jobs == 0


def test_a_prompt_of_just_the_limit_in_any_script_is_accepted(api):
    assert post(api, {"prompt": "猫" * 2000}).status_code == 202


def test_a_prompt_is_kept_as_it_was_sent(api):
    prompt = '  "quoted" \\ \u202e 🐈‍⬛ \n'
    assert api.wiring.store.get(api.submit(prompt)).request.prompt == prompt


def test_the_same_key_and_body_is_the_same_job(api):
    first = post(api, {"prompt": PROMPT}, **{"Idempotency-Key": "order-17"})
    api.worker.claim_next()
    again = post(api, {"prompt": PROMPT}, **{"Idempotency-Key": "order-17"})
    assert again.status_code == 202
    assert again.json == {"id": first.json["id"], "status": "started"}
    assert api.jobs == 1


def test_the_same_key_with_another_body_is_409(api):
    post(api, {"prompt": PROMPT}, **{"Idempotency-Key": "order-17"})
    reply = post(api, {"prompt": "another"}, **{"Idempotency-Key": "order-17"})
    assert_error(reply, 409, "idempotency_conflict", "Send a new key")
    assert api.jobs == 1


def test_the_same_key_of_another_owner_is_another_job(api):
    headers = {"Idempotency-Key": "order-17"}
    mine = post(api, {"prompt": PROMPT}, **headers)
    theirs = api.stranger.post("/v1/jobs", json={"prompt": PROMPT}, headers=headers)
    assert mine.json["id"] != theirs.json["id"]


def test_an_unfit_idempotency_key_is_400(api):
    reply = post(api, {"prompt": PROMPT}, **{"Idempotency-Key": "x" * 256})
    assert_error(reply, 400, "invalid_request", "Idempotency-Key")
    assert api.jobs == 0


def test_query_parameters_it_does_not_know_change_nothing(api):
    reply = api.client.post("/v1/jobs?duration=1&prompt=other", json={"prompt": PROMPT})
    assert api.wiring.store.get(reply.json["id"]).request.prompt == PROMPT


# --- poll


def test_a_poll_follows_the_job_through_its_life(api):
    job_id = api.submit()
    queued = read(api, job_id)
    assert queued == {
        "id": job_id,
        "status": "queued",
        "progress": 0,
        "created_at": queued["created_at"],
        "started_at": None,
        "finished_at": None,
        "gcs_uri": None,
        "error": None,
        "queue_position": 1,
        "estimated_seconds_left": None,
        "cost_usd": None,
    }
    assert datetime.fromisoformat(queued["created_at"]) == api.clock.now
    job = api.worker.claim_next()
    assert read(api, job_id)["status"] == "started"
    api.wiring.lifecycle.report(job_id, token=job.lease.token, phase=Phase.GENERATION, fraction=0.5)
    half = read(api, job_id)
    assert (half["status"], half["progress"]) == ("progress", 45)
    api.worker.complete(job)
    finished = read(api, job_id)
    assert (finished["status"], finished["progress"]) == ("finished", 100)
    month = f"{api.clock.now:%Y-%m}"
    assert finished["gcs_uri"] == f"local://promptreel/videos/{month}/{job_id}/final_video.mp4"
    assert finished["finished_at"] is not None


def test_a_failed_job_says_why(api):
    job_id = api.submit()
    api.worker.fail_next(PromptRefused("The model refused the prompt. Rephrase it."))
    job = read(api, job_id)
    assert job["status"] == "failed"
    assert job["error"] == {
        "code": "prompt_refused",
        "message": "The model refused the prompt. Rephrase it.",
    }


def test_a_job_that_is_tried_again_has_no_error(api):
    job_id = api.submit()
    api.worker.fail_next(RenderCrashed("The render process died."))
    job = read(api, job_id)
    assert (job["status"], job["error"]) == ("queued", None)


# --- whose job it is


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "job_id",
    [UNKNOWN, "x", "job_", "%00", "%ff", "..", "a%20b", "'; DROP TABLE jobs; --", "j" * 3000],
)
def test_an_unknown_or_malformed_id_is_404(api, method, path, job_id):
    reply = api.client.open(f"/v1/jobs/{job_id}{path}", method=method)
    assert reply.status_code == 404
    assert reply.json["error"]["code"] in ("job_not_found", "not_found")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_another_owners_job_is_told_apart_from_none_by_nobody(api, method, path):
    job_id = api.finished()
    theirs = api.stranger.open(f"/v1/jobs/{job_id}{path}", method=method)
    unknown = api.stranger.open(f"/v1/jobs/{UNKNOWN}{path}", method=method)
    assert_error(theirs, 404, "job_not_found", "Check the id")
    assert theirs.json["error"]["message"] == unknown.json["error"]["message"]


def test_another_owner_cannot_cancel(api):
    job_id = api.submit()
    api.stranger.post(f"/v1/jobs/{job_id}/cancel")
    assert read(api, job_id)["status"] == "queued"


# --- artifact


def test_the_artifact_is_a_working_link(api):
    job_id = api.finished()
    link = api.client.get(f"/v1/jobs/{job_id}/artifact")
    assert link.status_code == 200
    assert set(link.json) == {"gcs_uri", "url", "expires_in"}
    assert link.json["gcs_uri"] == read(api, job_id)["gcs_uri"]
    assert link.json["expires_in"] == 3600
    assert link.headers["Cache-Control"] == "no-store"
    video = api.anonymous.get(link.json["url"])
    assert video.data == VIDEO
    video.close()


def test_the_caller_says_for_how_long(api):
    job_id = api.finished()
    for seconds in (1, 43200):
        reply = api.client.get(f"/v1/jobs/{job_id}/artifact?expires_in={seconds}")
        assert reply.json["expires_in"] == seconds


@pytest.mark.parametrize("expires_in", ["0", "-1", "43201", "soon", "1.5", "", "9" * 5000, "NaN"])
def test_a_bad_lifetime_is_400(api, expires_in):
    job_id = api.finished()
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact?expires_in={expires_in}")
    assert_error(reply, 400, "invalid_request", "expires_in")


def test_the_artifact_can_redirect(api):
    job_id = api.finished()
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact?redirect=true")
    assert reply.status_code == 307
    video = api.anonymous.get(reply.headers["Location"])
    assert video.data == VIDEO
    video.close()
    assert api.client.get(f"/v1/jobs/{job_id}/artifact?redirect=false").status_code == 200


def test_a_redirect_that_is_neither_yes_nor_no_is_400(api):
    reply = api.client.get(f"/v1/jobs/{api.finished()}/artifact?redirect=maybe")
    assert_error(reply, 400, "invalid_request", "redirect")


def test_behind_a_proxy_links_lead_to_its_address(tmp_path):
    url = "https://video.example.com/reel/"
    with running_api(tmp_path, server={"public_url": url}) as api:
        link = api.client.get(f"/v1/jobs/{api.finished()}/artifact").json["url"]
    assert link.startswith("https://video.example.com/reel/outputs/videos/")


def test_a_forwarded_host_is_not_believed(api):
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    reply = api.client.get(f"/v1/jobs/{api.finished()}/artifact", headers=headers)
    assert reply.json["url"].startswith("http://localhost/")


def test_a_picture_of_the_video_is_got_by_its_kind(api):
    job_id = api.finished()
    poster = api.client.get(f"/v1/jobs/{job_id}/artifact?kind=poster").json
    assert poster["gcs_uri"].endswith(f"/{job_id}/poster.jpg")
    with api.anonymous.get(poster["url"]) as file:
        assert file.content_type == "image/jpeg"
    assert api.client.get(f"/v1/jobs/{job_id}/artifact?kind=video").json["gcs_uri"].endswith(".mp4")


def test_a_picture_that_the_video_has_not_is_404_and_one_that_there_is_not_400(api):
    job_id = api.finished()
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact?kind=seams")
    assert_error(reply, 404, "artifact_not_ready", "The job has no seams (status: finished).")
    assert "Poll" not in reply.json["error"]["message"]
    assert_error(api.client.get(f"/v1/jobs/{job_id}/artifact?kind=key"), 400, "invalid_request")


def test_an_artifact_that_is_not_ready_is_404(api):
    reply = api.client.get(f"/v1/jobs/{api.submit()}/artifact")
    assert_error(reply, 404, "artifact_not_ready", "queued", "Poll")


def test_an_artifact_past_its_retention_is_410(api):
    job_id = api.finished()
    api.clock.advance(8 * 24 * 3600)
    api.wiring.lifecycle.sweep()
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact")
    assert_error(reply, 410, "artifact_expired", "Submit the job again")
    job = read(api, job_id)
    assert (job["status"], job["gcs_uri"]) == ("finished", None)
    assert job["error"]["code"] == "artifact_expired"


def test_a_file_expires_at_its_moment_and_not_when_the_sweep_comes_by(api):
    job_id = api.finished()
    api.clock.advance(WEEK_SECONDS - 1)
    assert read(api, job_id)["gcs_uri"] is not None
    assert api.client.get(f"/v1/jobs/{job_id}/artifact").status_code == 200

    api.clock.advance(1)
    for query in ("", "?redirect=true"):
        reply = api.client.get(f"/v1/jobs/{job_id}/artifact{query}")
        assert_error(reply, 410, "artifact_expired", "Submit the job again")
    job = read(api, job_id)
    assert (job["status"], job["progress"], job["gcs_uri"]) == ("finished", 100, None)
    assert job["error"] == {
        "code": "artifact_expired",
        "message": "The file is past its retention. Submit the job again.",
    }


def test_a_link_ends_with_its_file_and_says_so(api):
    job_id = api.finished()
    api.clock.advance(WEEK_SECONDS - 100)
    for query in ("", "?expires_in=43200", "?expires_in=101"):
        assert api.client.get(f"/v1/jobs/{job_id}/artifact{query}").json["expires_in"] == 100
    assert api.client.get(f"/v1/jobs/{job_id}/artifact?expires_in=60").json["expires_in"] == 60

    link = api.link(job_id, expires_in=43200)
    api.clock.advance(98)
    with api.anonymous.get(link) as file:
        assert file.status_code == 200
    api.clock.advance(2)
    assert_error(api.anonymous.get(link), 410, "artifact_expired")


def test_in_the_last_moment_of_a_file_there_is_no_link_any_more(api):
    job_id = api.finished()
    api.clock.advance(WEEK_SECONDS - 0.5)
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact")
    assert_error(reply, 410, "artifact_expired", "Submit the job again")


def test_a_job_that_failed_long_ago_still_says_why(api):
    job_id = api.submit()
    api.worker.fail_next(PromptRefused("The model refused the prompt."))
    api.clock.advance(WEEK_SECONDS)
    api.wiring.lifecycle.sweep()
    assert read(api, job_id)["error"]["code"] == "prompt_refused"
    reply = api.client.get(f"/v1/jobs/{job_id}/artifact")
    assert_error(reply, 404, "artifact_not_ready", "failed")


# --- logs


def test_the_tail_of_the_log_is_as_long_as_asked(api):
    job_id = api.submit()
    lines = [f"line {number}" for number in range(300)]
    api.wiring.store.append_log(job_id, lines, now=api.clock.now)
    path = f"/v1/jobs/{job_id}/logs"
    newest = [line.partition(" ")[2] for line in api.client.get(path).json["lines"]]
    assert newest == lines[-200:]
    assert len(api.client.get(path, query_string={"tail": 2000}).json["lines"]) == 300
    assert api.client.get(path, query_string={"tail": 1}).json["lines"][0].endswith(" line 299")


def test_a_job_that_said_nothing_has_an_empty_log(api):
    assert api.client.get(f"/v1/jobs/{api.submit()}/logs").json == {"lines": []}


def test_a_log_shorter_than_the_default_tail_is_read_whole(tmp_path):
    with running_api(tmp_path, limits={"log_lines_per_job": 10}) as api:
        assert api.client.get(f"/v1/jobs/{api.submit()}/logs").status_code == 200


@pytest.mark.parametrize("tail", ["0", "-1", "2001", "all", "1.5", "9" * 5000])
def test_a_bad_tail_is_400(api, tail):
    reply = api.client.get(f"/v1/jobs/{api.submit()}/logs?tail={tail}")
    assert_error(reply, 400, "invalid_request", "tail")


# --- cancel


def test_a_queued_job_is_canceled_at_once_and_stays_so(api):
    job_id = api.submit()
    for _ in range(2):
        reply = api.client.post(f"/v1/jobs/{job_id}/cancel")
        assert (reply.status_code, reply.json) == (200, {"ok": True})
        assert read(api, job_id)["status"] == "canceled"


def test_a_running_job_is_asked_to_stop(api):
    job_id = api.submit()
    api.worker.claim_next()
    assert api.client.post(f"/v1/jobs/{job_id}/cancel").json == {"ok": True}
    assert read(api, job_id)["status"] == "started"
    assert api.wiring.store.get(job_id).cancel_requested_at is not None


def test_a_finished_job_cannot_be_canceled(api):
    job_id = api.finished()
    reply = api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert_error(reply, 409, "job_already_terminal", "finished")
    assert read(api, job_id)["status"] == "finished"


def test_a_failed_job_cannot_be_canceled(api):
    job_id = api.submit()
    api.worker.fail_next(PromptRefused("The model refused the prompt."))
    reply = api.client.post(f"/v1/jobs/{job_id}/cancel")
    assert_error(reply, 409, "job_already_terminal", "failed")
