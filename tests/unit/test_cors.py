"""Pages of other origins: none may ask by a browser, unless the configuration names them."""

import pytest

from shared.config import load_config
from shared.errors import ConfigurationError
from tests.unit.api_under_test import PROMPT, running_api
from tests.unit.every_route import every_call

PAGE, OTHER = "https://app.example.com", "https://evil.example.com"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(scope="module")
def open_api(tmp_path_factory):
    with running_api(tmp_path_factory.mktemp("open"), server={"cors_origins": [PAGE]}) as api:
        yield api


def told(reply):
    return {name for name in dict(reply.headers) if name.startswith("Access-Control-")}


def test_by_default_no_page_is_allowed_anything(api):
    for call in every_call(api.app):
        for origin in (PAGE, "null", "http://localhost"):
            asked = api.client.open(call.path, method=call.method, headers={"Origin": origin})
            assert not told(asked), call
            preflight = api.anonymous.options(call.path, headers={"Origin": origin, **ASKS})
            assert not told(preflight), call


def test_a_page_that_is_named_is_told_what_it_may_do_before_it_has_a_key(open_api):
    reply = open_api.anonymous.options("/v1/jobs", headers={"Origin": PAGE, **ASKS})
    assert reply.status_code == 204
    assert reply.headers["Access-Control-Allow-Origin"] == PAGE
    assert "POST" in reply.headers["Access-Control-Allow-Methods"].split(", ")
    assert "DELETE" not in reply.headers["Access-Control-Allow-Methods"]
    allowed = reply.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key"} <= set(allowed)
    assert "*" not in allowed


def test_it_asks_with_its_key_and_reads_the_reply(open_api):
    reply = open_api.client.post("/v1/jobs", json={"prompt": PROMPT}, headers={"Origin": PAGE})
    assert reply.status_code == 202
    assert reply.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Location" in reply.headers["Access-Control-Expose-Headers"]


def test_it_reads_refusals_too(open_api):
    reply = open_api.anonymous.get("/v1/jobs", headers={"Origin": PAGE})
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (401, PAGE)


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "https://APP.example.com",
        f"{PAGE}/",
        f"{PAGE}, {OTHER}",
        "",
    ],
)
def test_no_other_page_is_allowed_anything(open_api, origin):
    headers = {"Origin": origin}
    preflight = open_api.anonymous.options("/v1/jobs", headers={**headers, **ASKS})
    assert preflight.status_code == 401
    for reply in (preflight, open_api.client.get("/v1/jobs", headers=headers)):
        assert not told(reply)
        # Else a cache would give it what was meant for the page that is named.
        assert "Origin" in reply.vary


def test_a_browsers_own_credentials_are_never_allowed(open_api):
    for call in every_call(open_api.app):
        for client in (open_api.client, open_api.anonymous):
            reply = client.open(call.path, method=call.method, headers={"Origin": PAGE, **ASKS})
            assert "Access-Control-Allow-Credentials" not in reply.headers, call
            assert reply.headers.get("Access-Control-Allow-Origin", PAGE) == PAGE, call


def test_a_preflight_opens_no_route(open_api):
    headers = {"Origin": PAGE, **ASKS}
    assert open_api.anonymous.get("/v1/jobs", headers=headers).status_code == 401
    assert open_api.anonymous.options("/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "https://*.example.com",
        "https://app.example.com/",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://App.example.com",
        "https://ada:secret@app.example.com",
        "app.example.com",
        "https://app.example.com\n",
        "",
    ],
)
def test_what_is_no_exact_origin_stops_the_start(tmp_path, origin):
    file = tmp_path / "promptreel.yaml"
    file.write_text(f"server: {{cors_origins: [{origin!r}]}}")
    with pytest.raises(ConfigurationError) as caught:
        load_config(file)
    assert caught.value.problems[0][0] == "server.cors_origins.0"
    assert "exact origin" in caught.value.problems[0][1]
