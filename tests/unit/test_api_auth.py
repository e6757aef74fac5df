import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from services.api.gate import OTHERS_ENDPOINTS, PUBLIC_ENDPOINTS, SIGNED_ENDPOINTS
from services.api.keys import document as documents
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile, create_key
from shared.errors import ConfigurationError, Unauthenticated
from tests.unit.api_under_test import assert_error, running_api

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state" / "keys.json"


@pytest.fixture
def api(tmp_path):
    with running_api(tmp_path) as api:
        yield api


def owner_of(keys, key):
    return keys.key_of(f"Bearer {key}").owner


def test_a_key_names_its_owner(file):
    ada, bob = create_key(KeyFile(file), "ada", NOW), create_key(KeyFile(file), "bob", NOW)
    keys = KeyRing(KeyFile(file))
    assert (owner_of(keys, ada), owner_of(keys, bob)) == ("ada", "bob")


def test_the_scheme_may_be_written_as_one_likes(file):
    key = create_key(KeyFile(file), "ada", NOW)
    assert KeyRing(KeyFile(file)).key_of(f"bearer {key}").owner == "ada"


def test_the_file_holds_a_hash_and_no_secret_and_is_for_its_user_only(file):
    key = create_key(KeyFile(file), "ada", NOW)
    prefix, key_id, secret = key.split("_", 2)
    assert prefix == "pr"
    assert len(secret) >= 43
    assert secret not in file.read_text()
    assert json.loads(file.read_text())["keys"] == [
        {
            "id": key_id,
            "owner": "ada",
            "hash": hashlib.sha256(secret.encode()).hexdigest(),
            "created_at": "2026-01-31T12:00:00Z",
        }
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_keys_made_at_the_same_time_are_all_kept(file):
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: create_key(KeyFile(file), f"owner{n}", NOW), range(24)))
    keys = KeyRing(KeyFile(file))
    assert {owner_of(keys, key) for key in made} == {f"owner{n}" for n in range(24)}


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Bearer {key}x",
        "Bearer {key}, Bearer {key}",
        "Basic {key}",
        "{key}",
        "Bearer pr_00000000_{secret}",
        "Bearer pr_{id}_" + "A" * 43,
        "Bearer pr_{id}_",
        "Bearer pr_{id}_ä",
    ],
)
def test_anything_else_is_no_key(file, header):
    key = create_key(KeyFile(file), "ada", NOW)
    _, key_id, secret = key.split("_", 2)
    keys = KeyRing(KeyFile(file))
    if header is not None:
        header = header.replace("{key}", key).replace("{id}", key_id).replace("{secret}", secret)
    with pytest.raises(Unauthenticated):
        keys.key_of(header)


def test_a_key_whose_id_is_unknown_is_compared_all_the_same(file, monkeypatch):
    keys = KeyRing(KeyFile(_with_a_key(file)))
    compared = []
    compare = documents.hmac.compare_digest
    monkeypatch.setattr(
        documents.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b)
    )
    with pytest.raises(Unauthenticated):
        owner_of(keys, "pr_ffffffff_" + "A" * 43)
    assert len(compared) == 1


def test_a_key_added_or_removed_counts_at_once(file):
    ada = create_key(KeyFile(file), "ada", NOW)
    keys = KeyRing(KeyFile(file))
    bob = create_key(KeyFile(file), "bob", NOW)
    assert owner_of(keys, bob) == "bob"
    document = json.loads(file.read_text())
    document["keys"] = [entry for entry in document["keys"] if entry["owner"] == "bob"]
    file.write_text(json.dumps(document))
    with pytest.raises(Unauthenticated):
        owner_of(keys, ada)


def test_without_a_key_file_it_says_how_to_make_one(file):
    with pytest.raises(ConfigurationError, match="promptreel keys create"):
        KeyRing(KeyFile(file))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"keys": [{"id": "a"}]}',
        '{"keys": [{"id": "a", "owner": "", "hash": "x", "created_at": "2026-01-01T00:00:00Z"}]}',
        "\xff",
    ],
)
def test_a_broken_key_file_is_refused(file, text):
    file.parent.mkdir()
    file.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigurationError, match="is not a key file"):
        KeyRing(KeyFile(file))


def test_a_key_file_that_breaks_later_opens_no_door(api):
    api.key_file.write_text("{")
    reply = api.client.get("/v1/jobs/job_1")
    assert_error(reply, 500, "internal_error")
    assert str(api.key_file) not in reply.text


# --- which routes need a key


def paths(api):
    """Every route with something in its variable parts, by endpoint."""
    for rule in api.app.url_map.iter_rules():
        arguments = dict.fromkeys(rule.arguments, "x")
        path = api.app.url_map.bind("localhost").build(rule.endpoint, arguments)
        for method in sorted(rule.methods):
            yield rule.endpoint, method, path


def test_every_route_needs_a_key_unless_it_is_named(api):
    refused = set()
    for endpoint, method, path in paths(api):
        status = api.anonymous.open(path, method=method).status_code
        if endpoint in OTHERS_ENDPOINTS:
            assert status == 403 or method == "OPTIONS", (method, path)
            continue
        assert (status == 401) == (endpoint not in PUBLIC_ENDPOINTS), (method, path)
        if status == 401:
            refused.add(endpoint)
    assert refused == {
        "events.stream_events",
        "generate.generate",
        "generations.change_generation",
        "generations.create_generation",
        "generations.delete_generation",
        "generations.read_generation",
        "jobs.cancel_job",
        "jobs.create_job",
        "jobs.list_jobs",
        "jobs.read_artifact",
        "jobs.read_job",
        "jobs.read_logs",
        "outputs.output",
        "usage.read_usage",
        "webhook_endpoint.list_deliveries",
        "webhook_endpoint.read_delivery",
        "webhook_endpoint.read_webhook",
        "webhook_endpoint.register_webhook",
        "webhook_endpoint.remove_webhook",
        "webhook_endpoint.replace_webhook_secret",
        "webhook_endpoint.retry_delivery",
        "videos.create_video",
        "videos.delete_video",
        "videos.list_videos",
        "videos.read_content",
        "videos.read_video",
        "videos.remix_video",
    }


def test_a_route_added_later_needs_a_key(api):
    api.app.add_url_rule("/new", "new", lambda: "secret")
    assert_error(api.anonymous.get("/new"), 401, "unauthenticated", "Bearer <key>")
    assert api.client.get("/new").text == "secret"


def test_what_is_named_public_exists(api):
    assert set(api.app.view_functions) >= PUBLIC_ENDPOINTS | SIGNED_ENDPOINTS | OTHERS_ENDPOINTS


@pytest.mark.parametrize("authorization", [None, "Basic YTpi", "Bearer pr_00000000_wrong"])
def test_a_missing_or_wrong_key_is_401_and_says_what_to_send(api, authorization):
    headers = {"Authorization": authorization} if authorization else {}
    reply = api.anonymous.post("/v1/jobs", json={"prompt": "a cat"}, headers=headers)
    assert_error(reply, 401, "unauthenticated", "Authorization: Bearer <key>")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert api.jobs == 0


def test_a_caller_without_a_key_is_not_told_what_is_wrong_with_its_body(api):
    assert api.anonymous.post("/v1/jobs", data="{").status_code == 401


def _with_a_key(file):
    create_key(KeyFile(file), "ada", NOW)
    return file
