"""Every route refuses every wrong credential: the routes are those that the app has, whichever they will be.

What is open to everybody, or asks for another proof than a key, is listed here by hand, too: a route that joins
it must be written down twice.
"""

import base64
from datetime import timedelta

import pytest

from services.api.gate import OTHERS_ENDPOINTS, PUBLIC_ENDPOINTS, SIGNED_ENDPOINTS
from services.api.keys.document import Scope, new_key, revoked
from services.api.keys.sources import KeyFile
from tests.unit.api_under_test import assert_error, running_api
from tests.unit.every_route import every_call

OPEN_TO_EVERYBODY = {
    "documentation.asset",
    "documentation.page",
    "documentation.specification",
    "health.health",
    "operations.healthz",
    "operations.metrics",
    "operations.readyz",
}
PROVEN_OTHERWISE = {
    "outputs.output",  # by a signature, else by a key
    "sweep.sweep",  # by a token of Google's
    "webhooks.replicate_webhook",  # by the provider's signature
}
READING = {"GET", "HEAD", "OPTIONS"}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    limits = {"wrong_keys_per_minute_per_address": None}
    with running_api(tmp_path_factory.mktemp("api"), limits=limits) as api:
        yield api


@pytest.fixture(scope="module")
def job_id(api):
    return api.finished()


def add_key(api, owner="ada", **fields):
    key, entry = new_key(owner, api.clock.now, **fields)
    KeyFile(api.key_file).edit(lambda document: document.with_key(entry))
    return key, entry


def revoked_key(api):
    key, entry = add_key(api)
    KeyFile(api.key_file).edit(lambda document: revoked(document, entry.id, now=api.clock.now))
    return key


def one_character_off(key):
    return key[:-1] + ("A" if key[-1] != "A" else "B")


def of_another_id(key):
    _, _, secret = key.split("_", 2)
    return f"pr_00000000_{secret}"


WRONG = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "the scheme alone": lambda _: "Bearer",
    "the scheme and a blank": lambda _: "Bearer ",
    "garbage": lambda _: "Bearer \x7f{}'\"--",
    "very long": lambda _: f"Bearer pr_00000000_{'A' * 8000}",
    "not of this alphabet": lambda api: f"Bearer {api.key}\u00e9",
    "one character off": lambda api: f"Bearer {one_character_off(api.key)}",
    "one character less": lambda api: f"Bearer {api.key[:-1]}",
    "one character more": lambda api: f"Bearer {api.key}A",
    "in capitals": lambda api: f"Bearer {api.key.upper()}",
    "of another id": lambda api: f"Bearer {of_another_id(api.key)}",
    "the id alone": lambda api: f"Bearer {api.key[:11]}",
    "the secret alone": lambda api: f"Bearer {api.key[12:]}",
    "the hash that is stored": lambda api: (
        f"Bearer {api.key[:12]}{KeyFile(api.key_file).load().find(api.key[3:11]).hash}"
    ),
    "without a scheme": lambda api: api.key,
    "another scheme": lambda api: f"Token {api.key}",
    "basic": lambda api: "Basic " + base64.b64encode(f"{api.key}:".encode()).decode(),
    "twice": lambda api: f"Bearer {api.key}, Bearer {api.key}",
    "with a parameter": lambda api: f"Bearer {api.key};a=b",
    "revoked": lambda api: f"Bearer {revoked_key(api)}",
    "expired": lambda api: (
        f"Bearer {add_key(api, expires_at=api.clock.now - timedelta(seconds=1))[0]}"
    ),
}


def needing_a_key(api, job_id="x"):
    """Every operation that is not listed above, of a job that is there."""
    values = {"job_id": job_id, "video_id": job_id, "generation_id": job_id, "clip_id": job_id}
    for call in every_call(api.app, **values):
        if call.endpoint not in OPEN_TO_EVERYBODY | PROVEN_OTHERWISE - SIGNED_ENDPOINTS:
            yield call


def test_what_is_open_is_what_is_written_down_here():
    assert PUBLIC_ENDPOINTS == OPEN_TO_EVERYBODY
    assert SIGNED_ENDPOINTS | OTHERS_ENDPOINTS == PROVEN_OTHERWISE


@pytest.mark.parametrize("what", WRONG)
def test_every_route_refuses_a_wrong_credential(api, job_id, what):
    authorization = WRONG[what](api)
    headers = {} if authorization is None else {"Authorization": authorization}
    before, tried = api.jobs, 0
    for call in needing_a_key(api, job_id):
        reply = api.anonymous.open(call.path, method=call.method, headers=headers)
        assert reply.status_code == 401, (what, call)
        assert reply.headers["WWW-Authenticate"] == "Bearer", (what, call)
        assert api.key not in reply.text, (what, call)
        tried += 1
    assert tried > 60
    assert api.jobs == before


@pytest.mark.parametrize("name", ["key", "api_key", "token", "access_token", "authorization"])
def test_no_route_takes_a_key_from_its_query_or_a_cookie(api, job_id, name):
    for call in needing_a_key(api, job_id):
        client = api.anonymous
        client.set_cookie(name, api.key)
        for value in (api.key, f"Bearer {api.key}"):
            reply = client.open(call.path, method=call.method, query_string={name: value})
            assert reply.status_code == 401, call


@pytest.mark.parametrize("header", ["X-Api-Key", "Proxy-Authorization", "X-Authorization"])
def test_no_route_takes_a_key_from_another_header(api, job_id, header):
    for call in needing_a_key(api, job_id):
        headers = {header: f"Bearer {api.key}"}
        reply = api.anonymous.open(call.path, method=call.method, headers=headers)
        assert reply.status_code == 401, call


@pytest.mark.parametrize(
    ("scope", "refused"),
    [(Scope.READ, "write"), (Scope.WRITE, "read")],
    ids=str,
)
def test_every_route_refuses_a_key_with_another_scope(api, job_id, scope, refused):
    client = api.client_of(add_key(api, scopes=(scope,))[0])
    tried = 0
    for call in needing_a_key(api, job_id):
        needs = "read" if call.method in READING else "write"
        if needs != refused:
            continue
        reply = client.open(call.path, method=call.method, json={"prompt": "a cat"})
        assert reply.status_code == 403, call
        if call.method != "HEAD" and not call.path.startswith(("/v1/videos", "/api/v1")):
            assert_error(reply, 403, "scope_missing", f"`{refused}`")
        tried += 1
    assert tried > 10


def test_another_owners_job_is_not_there_on_any_route(api, job_id):
    stranger, tried = api.stranger, set()
    for call in needing_a_key(api, job_id):
        if job_id not in call.path or call.method == "OPTIONS":
            continue
        reply = stranger.open(call.path, method=call.method, json=_body_of(call))
        assert reply.status_code == 404, (call, reply.text)
        assert job_id not in reply.text, call
        tried.add(call.endpoint)
    assert {"jobs.read_job", "events.stream_events", "videos.delete_video"} <= tried
    assert len(tried) > 12
    assert api.client.get(f"/v1/jobs/{job_id}").json["status"] == "finished"


def _body_of(call):
    if call.method in READING | {"DELETE"}:
        return None
    return {"action": "cancel"} if call.method == "PATCH" else {"prompt": "a cat"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_right_key_opens_every_route_however_its_scheme_is_written(api, scheme):
    """Else all of this would prove nothing."""
    for call in needing_a_key(api, "job_none"):
        headers = {"Authorization": f"{scheme} {api.key}"}
        reply = api.anonymous.open(call.path, method=call.method, headers=headers)
        assert reply.status_code not in {401, 403, 429}, call


# --- what is proven otherwise


GOOGLES = [None, "", "Bearer", "Bearer x", "Bearer a.b.c", "Basic YTpi", "Bearer {key}"]


@pytest.mark.parametrize("authorization", GOOGLES)
def test_neither_a_key_nor_anything_else_opens_the_sweep_where_nobody_may_call(api, authorization):
    headers = {}
    if authorization is not None:
        headers["Authorization"] = authorization.replace("{key}", api.key)
    reply = api.anonymous.post("/internal/sweep", headers=headers)
    assert_error(reply, 403, "untrusted_caller")


@pytest.mark.parametrize("signature", [None, "", "v1,", "v1,AAAA", "v1a,AAAA", "Bearer {key}"])
def test_neither_a_key_nor_anything_else_opens_the_providers_webhook(api, signature):
    headers = {"Authorization": f"Bearer {api.key}", "webhook-id": "msg_1"}
    headers |= {"webhook-timestamp": str(int(api.clock.now.timestamp()))}
    if signature is not None:
        headers["webhook-signature"] = signature.replace("{key}", api.key)
    body = {"id": "p", "status": "succeeded"}
    reply = api.anonymous.post("/api/v1/webhooks/replicate", json=body, headers=headers)
    assert reply.status_code == 403


def test_a_signature_opens_the_file_alone(api, job_id):
    query = api.link(job_id).partition("?")[2]
    for call in needing_a_key(api, job_id):
        if call.endpoint not in SIGNED_ENDPOINTS:
            reply = api.anonymous.open(f"{call.path}?{query}", method=call.method)
            assert reply.status_code == 401, call
