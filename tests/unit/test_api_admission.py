"""What a caller is told who comes when a limit is reached, on both surfaces that take jobs."""

import pytest
import yaml

from tests.unit.api_under_test import PROMPT, ApiUnderTest, assert_error, running_api

every_create = pytest.mark.parametrize("path", ["/v1/jobs", "/generate"])


def create(api: ApiUnderTest, path: str = "/v1/jobs", *, key: str | None = None):
    headers = {"Idempotency-Key": key} if key else {}
    return api.client.post(path, json={"prompt": PROMPT}, headers=headers)


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path, limits={"submissions_per_minute_per_owner": 2}) as api:
        yield api


@every_create
@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("queued_per_model", "queue_full"),
        ("queued_per_owner", "queue_full"),
        ("in_flight_per_owner", "too_many_in_flight"),
        ("submissions_per_minute_per_owner", "rate_exceeded"),
    ],
)
def test_one_too_many_is_429_and_says_which_number_and_when(tmp_path, path, limit, code):
    with running_api(tmp_path, limits={limit: 2}, generate={"wait_seconds": 0.1}) as api:
        for _ in range(2):
            api.submit()
        reply = create(api, path)
        assert_error(reply, 429, code, "2", f"in {reply.headers['Retry-After']} s")
        assert 1 <= int(reply.headers["Retry-After"]) <= 3600
        assert api.jobs == 2


def test_who_comes_back_when_told_is_let_in_and_not_a_second_earlier(api):
    api.submit()
    api.clock.advance(12.5)
    api.submit()
    wait = int(create(api).headers["Retry-After"])
    assert wait == 48  # 47.5, rounded up
    api.clock.advance(wait - 1)
    assert create(api).status_code == 429
    api.clock.advance(1)
    assert create(api).status_code == 202


def test_the_wait_for_a_place_is_measured_by_the_jobs_that_ended(tmp_path):
    with running_api(tmp_path, limits={"in_flight_per_owner": 1}) as api:
        api.submit()
        assert create(api).headers["Retry-After"] == "30"
        api.worker.render_next()
        for _ in range(3):
            api.finished()
        api.clock.advance(60)
        api.submit()
        assert create(api).headers["Retry-After"] == "150"  # four in ten minutes


def test_a_retry_of_an_accepted_request_is_never_refused(api):
    job_id = create(api, key="once").json["id"]
    api.submit()
    again = create(api, key="once")
    assert (again.status_code, again.json["id"]) == (202, job_id)
    assert_error(create(api, key="other"), 429, "rate_exceeded")


def test_another_owner_is_let_in(api):
    for _ in range(2):
        api.submit()
    assert api.stranger.post("/v1/jobs", json={"prompt": PROMPT}).status_code == 202


def test_a_place_is_free_again_when_a_job_is_canceled(tmp_path):
    with running_api(tmp_path, limits={"in_flight_per_owner": 1}) as api:
        job_id = api.submit()
        assert create(api).status_code == 429
        api.client.post(f"/v1/jobs/{job_id}/cancel")
        assert create(api).status_code == 202


def test_refusals_are_counted_by_model_and_code(api):
    for _ in range(4):
        create(api)
    metrics = api.anonymous.get("/metrics").text
    refused = 'promptreel_jobs_refused_total{code="rate_exceeded",model="wan2.1-demo"} 2.0'
    assert refused in metrics.splitlines()
    assert 'promptreel_jobs_submitted_total{model="wan2.1-demo"} 2.0' in metrics.splitlines()


def test_without_a_word_in_the_configuration_a_queue_is_bounded_and_nothing_else(tmp_path):
    with running_api(tmp_path) as api:
        limits = api.wiring.config.limits
    assert (limits.queued_per_model, limits.queued_per_owner) == (1000, 500)
    assert (limits.in_flight_per_owner, limits.submissions_per_minute_per_owner) == (None, None)


@every_create
def test_the_description_names_the_refusal(api, path):
    described = yaml.safe_load(api.anonymous.get("/openapi.yaml").text)["paths"][path]["post"]
    example = described["responses"]["429"]["content"]["application/json"]["example"]
    assert example["error"]["code"] == "queue_full"
