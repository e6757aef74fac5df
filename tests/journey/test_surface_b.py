"""Surface B of the contract, a test a line, over HTTP against `promptreel up`."""

import re
import time
from datetime import datetime

import httpx
import pytest
import yaml
from openapi_spec_validator import validate

from tests.journey.installation import install, wait_for

PROMPT = "a man stands at a podium on a stage"


@pytest.fixture(scope="module")
def created(client):
    return client.post("/v1/jobs", json={"prompt": PROMPT})


@pytest.fixture(scope="module")
def finished(client, created):
    return wait_for(client, created.json()["id"], "finished", "failed", "canceled")


def test_a_prompt_is_accepted_at_once_with_its_location(created):
    assert created.status_code == 202
    job = created.json()
    assert job == {"id": job["id"], "status": "queued"}
    assert created.headers["location"] == f"/v1/jobs/{job['id']}"
    assert created.elapsed.total_seconds() < 1


def test_a_poll_has_exactly_the_documented_fields(finished):
    assert set(finished) == {
        "id",
        "status",
        "progress",
        "created_at",
        "started_at",
        "finished_at",
        "gcs_uri",
        "error",
        "queue_position",
        "estimated_seconds_left",
        "cost_usd",
    }


def test_a_finished_job_tells_its_times_and_its_uri(finished):
    assert finished["status"] == "finished"
    assert finished["progress"] == 100
    assert finished["error"] is None
    times = [datetime.fromisoformat(finished[f"{name}_at"]) for name in ("created", "started")]
    assert times[0] <= times[1] < datetime.fromisoformat(finished["finished_at"])
    month = times[0].strftime("%Y-%m")
    uri = f"local://promptreel/videos/{month}/{finished['id']}/final_video.mp4"
    assert finished["gcs_uri"] == uri


def test_progress_grows_while_it_renders(tmp_path, demo_model_dir):
    # The shared installation's clips are done before progress is due, once a second.
    longer = install(tmp_path, demo_model_dir, render={"duration_seconds": 5})
    with longer.running(), longer.client() as client:
        body = {"prompt": "a long walk"}
        job_id = client.post("/v1/jobs", json=body).json()["id"]
        seen = []
        while (job := client.get(f"/v1/jobs/{job_id}").json())["status"] != "finished":
            seen.append((job["status"], job["progress"]))
            time.sleep(0.05)
    assert {status for status, _ in seen} >= {"progress"}
    assert [progress for _, progress in seen] == sorted(progress for _, progress in seen)
    assert any(0 < progress < 100 for _, progress in seen)


def test_the_artifact_is_a_working_link(client, finished):
    link = client.get(f"/v1/jobs/{finished['id']}/artifact").json()
    assert set(link) == {"gcs_uri", "url", "expires_in"}
    assert link["gcs_uri"] == finished["gcs_uri"]
    assert link["expires_in"] == 3600
    video = httpx.get(link["url"])
    assert video.headers["content-type"] == "video/mp4"
    assert video.content[4:8] == b"ftyp"


def test_the_artifact_can_redirect_and_the_caller_says_for_how_long(client, finished):
    path = f"/v1/jobs/{finished['id']}/artifact"
    assert client.get(path, params={"expires_in": 60}).json()["expires_in"] == 60
    reply = client.get(path, params={"redirect": "true"})
    assert reply.status_code in (302, 307)
    assert httpx.get(reply.headers["location"]).status_code == 200


@pytest.mark.parametrize("expires_in", ["0", "-1", "soon", "999999"])
def test_a_bad_lifetime_is_refused(client, finished, expires_in):
    reply = client.get(f"/v1/jobs/{finished['id']}/artifact", params={"expires_in": expires_in})
    assert reply.status_code == 400
    assert "expires_in" in reply.text


def test_the_logs_tell_each_phase_and_never_the_prompt(client, finished):
    lines = client.get(f"/v1/jobs/{finished['id']}/logs").json()["lines"]
    text = "\n".join(lines)
    for phase in ("plan", "keyframes", "generation", "stitch", "upload"):
        assert phase in text
    assert re.search(r"step \d+/\d+", text)
    assert "podium" not in text
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_the_tail_of_the_logs_is_as_long_as_asked(client, finished):
    path = f"/v1/jobs/{finished['id']}/logs"
    everything = client.get(path).json()["lines"]
    assert client.get(path, params={"tail": 2}).json()["lines"] == everything[-2:]


def test_a_running_job_can_be_canceled(client):
    job_id = client.post("/v1/jobs", json={"prompt": "stop me"}).json()["id"]
    wait_for(client, job_id, "started", "progress")
    reply = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (reply.status_code, reply.json()) == (200, {"ok": True})
    job = wait_for(client, job_id, "canceled", seconds=5)
    assert job["gcs_uri"] is None
    assert client.get(f"/v1/jobs/{job_id}/artifact").status_code == 404


def test_a_second_cancel_is_ok_and_a_finished_job_stays_finished(client, finished):
    job_id = client.post("/v1/jobs", json={"prompt": "stop me"}).json()["id"]
    for _ in range(2):
        assert client.post(f"/v1/jobs/{job_id}/cancel").json() == {"ok": True}
    assert client.post(f"/v1/jobs/{finished['id']}/cancel").status_code == 409
    assert client.get(f"/v1/jobs/{finished['id']}").json() == finished


def test_an_artifact_that_is_not_ready_is_404(client):
    job_id = client.post("/v1/jobs", json={"prompt": "not yet"}).json()["id"]
    reply = client.get(f"/v1/jobs/{job_id}/artifact")
    assert reply.status_code == 404
    assert "Poll" in reply.json()["error"]["message"]
    client.post(f"/v1/jobs/{job_id}/cancel")


def test_the_same_key_and_body_is_the_same_job(client):
    headers = {"Idempotency-Key": "order-17"}
    first = client.post("/v1/jobs", json={"prompt": "once"}, headers=headers)
    again = client.post("/v1/jobs", json={"prompt": "once"}, headers=headers)
    other = client.post("/v1/jobs", json={"prompt": "twice"}, headers=headers)
    assert first.json()["id"] == again.json()["id"]
    assert again.status_code == 202
    assert other.status_code == 409
    client.post(f"/v1/jobs/{first.json()['id']}/cancel")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": 7},
        {"prompt": None},
        {"prompt": "x" * 2001},
        {"prompt": "a cat", "seed": 7},
        ["a cat"],
    ],
)
def test_a_bad_prompt_is_400_and_says_what_to_do(client, body):
    reply = client.post("/v1/jobs", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["", "/artifact", "/logs"])
def test_an_unknown_job_is_404(client, path):
    assert client.get(f"/v1/jobs/job_{'0' * 32}{path}").status_code == 404


@pytest.mark.parametrize("authorization", [None, "Bearer pr_00000000_wrong", "Basic YTpi"])
def test_a_missing_or_wrong_key_is_401(promptreel, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    reply = httpx.post(f"{promptreel.url}/v1/jobs", json={"prompt": "a cat"}, headers=headers)
    assert reply.status_code == 401


def test_operations_need_no_key(promptreel):
    assert httpx.get(f"{promptreel.url}/healthz").status_code == 200
    ready = httpx.get(f"{promptreel.url}/readyz")
    assert ready.status_code == 200
    assert set(ready.json()["checks"]) == {"store", "queue"}
    metrics = httpx.get(f"{promptreel.url}/metrics").text
    assert "promptreel_http_requests_total" in metrics
    assert 'promptreel_jobs{status="finished"}' in metrics


def test_the_documentation_is_served_without_the_internet(promptreel):
    page = httpx.get(f"{promptreel.url}/docs", follow_redirects=True)
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert assets
    for asset in assets:
        assert not asset.startswith(("http:", "https:", "//"))
        assert httpx.get(httpx.URL(str(page.url)).join(asset)).status_code == 200


def test_the_specification_is_valid_openapi(promptreel):
    specification = yaml.safe_load(httpx.get(f"{promptreel.url}/openapi.yaml").text)
    validate(specification)
    assert specification["openapi"].startswith("3.1")
    assert {"/generate", "/v1/jobs", "/v1/jobs/{job_id}"} <= set(specification["paths"])


def test_no_log_line_holds_a_prompt_a_key_or_a_signature(promptreel, client, finished):
    link = client.get(f"/v1/jobs/{finished['id']}/artifact").json()["url"]
    httpx.get(link)
    signature = link.partition("signature=")[2]
    log = promptreel.log
    assert finished["id"] in log
    for secret in ("podium", promptreel.key, promptreel.key.split("_", 2)[2], signature):
        assert secret not in log
