"""Both clients over the wire: to the real API, and to servers that do what a script says."""

import re
from pathlib import Path

import httpx
import pytest

from services.emulators.serving import serving
from shared.client import AsyncPromptreel, Promptreel
from shared.client.errors import (
    ApiError,
    CannotReach,
    Conflict,
    LimitReached,
    NotThere,
    Unavailable,
    Unreadable,
    WrongKey,
)
from tests.unit.api_under_test import PROMPT, VIDEO, meanwhile, running_api
from tests.unit.client_under_test import KEY, Reply, a_job, client_of, no_such, refusal, scripted

ACCEPTED = Reply({"id": "job_1", "status": "queued"}, 202)
BUSY = refusal(503, "store_unavailable", Retry_After="5")


@pytest.fixture(params=["blocking", "awaiting"])
def kind(request):
    return request.param


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api, serving(api.app) as url:
        api.url = url
        yield api


@pytest.fixture
def client(api, kind):
    with client_of(kind, api.url, api.key) as (client, _):
        yield client


def test_a_job_is_submitted_read_and_canceled(api, client):
    job_id = client.submit(PROMPT).id
    assert client.get(job_id).status == "queued"
    assert client.logs(job_id) == ()
    client.cancel(job_id)
    assert client.get(job_id).status == "canceled"
    assert api.jobs == 1


def test_a_key_that_was_sent_before_gives_the_job_of_then(client):
    first = client.submit(PROMPT, idempotency_key="mine").id
    assert client.submit(PROMPT, idempotency_key="mine").id == first
    assert client.submit(PROMPT).id != first
    with pytest.raises(Conflict) as refused:
        client.submit("another", idempotency_key="mine")
    assert refused.value.code == "idempotency_conflict"


def test_an_error_is_what_the_server_said(client):
    with pytest.raises(NotThere) as refused:
        client.get("job_none")
    error = refused.value
    assert (error.status, error.code) == (404, "job_not_found")
    assert "no such job" in error.message
    assert error.request_id


def test_an_id_is_one_part_of_the_path(client):
    with pytest.raises(NotThere) as refused:
        client.get("../../health?x=")
    assert refused.value.status == 404


def test_a_wrong_key_is_told_and_shown_nowhere(api, kind):
    with client_of(kind, api.url) as (client, _), pytest.raises(WrongKey) as refused:
        client.get("job_1")
    assert refused.value.status == 401
    for text in (repr(client), repr(refused.value), str(refused.value), str(vars(refused.value))):
        assert KEY not in text


@pytest.mark.parametrize("kind_of_client", [Promptreel, AsyncPromptreel])
@pytest.mark.parametrize(
    ("url", "key"), [("ftp://x", KEY), ("nonsense", KEY), ("http://x", "two words\n"), ("", KEY)]
)
def test_what_is_no_address_and_no_key_is_refused_at_once(kind_of_client, url, key):
    with pytest.raises(ValueError, match=r"address|key") as refused:
        kind_of_client(url, key)
    assert key not in str(refused.value)


@pytest.mark.parametrize("kind_of_client", [Promptreel, AsyncPromptreel])
def test_a_password_in_the_address_is_refused_and_shown_nowhere(kind_of_client):
    with pytest.raises(ValueError, match="password") as refused:
        kind_of_client("http://me:hunter2@127.0.0.1:9", KEY)
    assert "hunter2" not in str(refused.value)


def test_a_submit_is_repeated_with_the_same_key_until_it_is_heard(kind):
    with scripted({"/v1/jobs": [BUSY, ACCEPTED]}) as server:
        with client_of(kind, server.url) as (client, sleeps):
            assert client.submit(PROMPT).id == "job_1"
        first, second = server.header("Idempotency-Key")
        assert first == second
        assert first
        assert sleeps.seconds == [5.0]


def test_an_answer_that_broke_off_is_asked_for_again(kind):
    cut = Reply({"id": "job_1", "status": "queued"}, 202, cut_after=5)
    with scripted({"/v1/jobs": [cut, ACCEPTED]}) as server:
        with client_of(kind, server.url) as (client, _):
            assert client.submit(PROMPT).id == "job_1"
        assert len(set(server.header("Idempotency-Key"))) == 1


def test_tries_are_counted(kind):
    with scripted({"/v1/jobs/job_1": [refusal(503, "store_unavailable")]}) as server:
        with client_of(kind, server.url) as (client, sleeps), pytest.raises(Unavailable):
            client.get("job_1")
        assert len(server.asked) == 4
        assert sleeps.seconds == [0.5, 1.0, 2.0]


def test_a_wait_that_is_too_long_is_told_instead_of_waited(kind):
    limit = refusal(429, "too_many_in_flight", Retry_After="600")
    with scripted({"/v1/jobs": [limit]}) as server:
        with client_of(kind, server.url) as (client, sleeps), pytest.raises(LimitReached) as told:
            client.submit(PROMPT)
        assert told.value.retry_after_seconds == 600
        assert len(server.asked) == 1
        assert sleeps.seconds == []


def test_a_moment_to_come_again_is_understood(kind):
    past = refusal(503, "x", Retry_After="Sat, 21 Nov 2020 05:04:24 GMT")
    odd = refusal(503, "x", Retry_After="soon")
    with scripted({"/v1/jobs/job_1": [past, odd, Reply(a_job())]}) as server:
        with client_of(kind, server.url) as (client, sleeps):
            assert client.get("job_1").progress == 42
        assert sleeps.seconds == [0.5, 1.0]


@pytest.mark.parametrize("status", [400, 401, 404, 409, 500])
def test_what_will_not_pass_is_not_asked_again(kind, status):
    with scripted({"/v1/jobs/job_1": [refusal(status, "no")]}) as server:
        with client_of(kind, server.url) as (client, _), pytest.raises(ApiError) as refused:
            client.get("job_1")
        assert refused.value.status == status
        assert len(server.asked) == 1


def test_a_server_that_is_not_there_is_named(kind):
    with client_of(kind, "http://127.0.0.1:9") as (client, sleeps):
        with pytest.raises(CannotReach, match=r"127\.0\.0\.1:9"):
            client.get("job_1")
        assert len(sleeps.seconds) == 3


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"\xff"])
def test_a_reply_of_something_else_is_told_without_quoting_it(kind, body):
    with scripted({"/v1/jobs/job_1": [Reply(body)]}) as server:
        with client_of(kind, server.url) as (client, _), pytest.raises(Unreadable) as told:
            client.get("job_1")
        assert "hello" not in str(told.value)


def test_an_error_of_a_proxy_is_told_by_its_status(kind):
    with scripted({"/v1/jobs/job_1": [Reply(b"<html>", 418)]}) as server:
        with (
            client_of(kind, server.url) as (client, _),
            pytest.raises(ApiError, match="418") as told,
        ):
            client.get("job_1")
        assert told.value.code == "unknown_error"


def test_a_page_of_jobs_is_asked_for_as_it_was_named(kind):
    page = {"data": [a_job()], "has_more": True, "last_id": "job_1"}
    with scripted({"/v1/jobs": [Reply(page)]}) as server:
        with client_of(kind, server.url) as (client, _):
            listed = client.list(limit=1, after="job_0", status="queued")
        assert server.asked[0]["QUERY_STRING"] == "limit=1&after=job_0&status=queued"
    assert listed.data[0].cost_usd is None
    assert listed.last_id == "job_1"


def test_pages_of_the_real_api_lead_to_every_job(api, client):
    ids = [client.submit(f"{PROMPT} {n}").id for n in range(3)]
    first = client.list(limit=2)
    second = client.list(limit=2, after=first.last_id)
    assert sorted(job.id for page in (first, second) for job in page.data) == sorted(ids)
    assert (first.has_more, second.has_more) == (True, False)
    assert client.list(status="finished").data == []
    assert client.list(order="asc").data[0].queue_position == 1


def test_an_idempotency_key_that_fits_no_header_is_refused(kind):
    with (
        client_of(kind, "http://127.0.0.1:9") as (client, _),
        pytest.raises(ValueError, match="printable"),
    ):
        client.submit(PROMPT, idempotency_key="a\nb")


def test_a_transport_can_be_given():
    def answer(request):
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        return httpx.Response(200, json=a_job())

    with Promptreel("http://x/base/", KEY, transport=httpx.MockTransport(answer)) as client:
        assert client.get("job_1").id == "job_1"
    assert no_such().status == 404


def test_the_readmes_example_does_what_it_says(api, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [example] = re.findall(r"```python\n(from shared\.client.*?)```", readme, re.DOTALL)
    assert "http://127.0.0.1:8000" in example
    with meanwhile(api.worker.render_next):
        exec(example.replace("http://127.0.0.1:8000", api.url), {"key": api.key})  # noqa: S102
    assert (tmp_path / "circle.mp4").read_bytes() == VIDEO
