"""API keys: what they are good for, how long, and where they are kept."""

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.auth.credentials import AnonymousCredentials

from services.api.keys.document import KeyDocument, Scope, new_key, revoked, rotated
from services.api.keys.ring import KeyRing
from services.api.keys.secret_source import KeySecret
from services.api.keys.sources import KeyFile, create_key
from shared.adapters.gcp.secret_manager import Secret
from shared.errors import ConfigurationError, KeysUnavailable, KeyUnknown, Unauthenticated
from tests.unit.api_under_test import assert_error, running_api

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Clock:
    def __init__(self):
        self.now, self.seconds = NOW, 1000.0

    def advance(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


def ring_of(source, clock):
    return KeyRing(source, now=lambda: clock.now, clock=lambda: clock.seconds)


def add(source, **fields):
    key, entry = new_key("ada", NOW, **fields)
    source.edit(lambda document: document.with_key(entry))
    return key, entry


def opens(ring, key):
    try:
        ring.key_of(f"Bearer {key}")
    except Unauthenticated:
        return False
    return True


# --- how long a key counts


def test_a_key_counts_until_it_expires(file, clock):
    key, _ = add(file, expires_at=NOW + HOUR)
    ring = ring_of(file, clock)
    assert opens(ring, key)
    clock.advance(3599)
    assert opens(ring, key)
    clock.advance(1)
    assert not opens(ring, key)


def test_a_revoked_key_opens_nothing_at_once(file, clock):
    key, entry = add(file)
    other, _ = add(file)
    ring = ring_of(file, clock)
    assert opens(ring, key)
    file.edit(lambda document: revoked(document, entry.id, now=NOW))
    assert not opens(ring, key)
    assert opens(ring, other)


def test_in_rotation_two_keys_count_for_a_while(file, clock):
    key, entry = add(file, scopes=(Scope.READ,), plan="pro")
    ring = ring_of(file, clock)
    new, successor = new_key("ada", NOW, scopes=entry.scopes, plan=entry.plan)
    file.edit(lambda document: rotated(document, entry.id, successor, now=NOW, overlap=24 * HOUR))
    assert opens(ring, key)
    assert opens(ring, new)
    clock.advance(24 * 3600)
    assert not opens(ring, key)
    assert opens(ring, new)


def test_rotation_makes_no_key_live_longer(file):
    _, entry = add(file, expires_at=NOW + HOUR)
    _, successor = new_key("ada", NOW)
    file.edit(lambda document: rotated(document, entry.id, successor, now=NOW, overlap=24 * HOUR))
    assert file.load().find(entry.id).expires_at == NOW + HOUR


def test_what_is_not_there_cannot_be_changed(file):
    add(file)
    before = file.load()
    with pytest.raises(KeyUnknown):
        file.edit(lambda document: revoked(document, "ffffffff", now=NOW))
    assert file.load() == before


def test_keys_of_earlier_versions_are_good_for_everything(file, tmp_path):
    key, entry = new_key("ada", NOW)
    plain = {"id": entry.id, "owner": "ada", "hash": entry.hash, "created_at": NOW.isoformat()}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [plain]}))
    assert KeyRing(file).key_of(f"Bearer {key}").scopes == (Scope.READ, Scope.WRITE)


# --- Secret Manager


class SecretManager:
    """Its wire, for one secret."""

    def __init__(self):
        self.versions: list[bytes] = []
        self.reads = 0
        self.away = False
        self.before_an_add = lambda: None


@contextmanager
def secret_manager():
    manager = SecretManager()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path.startswith("/v1/projects/p/secrets/keys/versions/")
            which = self.path.rpartition("/")[2].removesuffix(":access")
            manager.reads += 1
            number = len(manager.versions) if which == "latest" else int(which)
            if manager.away:
                self.answer(503, {})
            elif not 0 < number <= len(manager.versions):
                self.answer(404, {"error": {"status": "NOT_FOUND"}})
            else:
                data = base64.b64encode(manager.versions[number - 1]).decode()
                self.answer(200, {"name": self.name(number), "payload": {"data": data}})

        def do_POST(self):
            assert self.path == "/v1/projects/p/secrets/keys:addVersion"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            manager.before_an_add()
            manager.versions.append(base64.b64decode(body["payload"]["data"]))
            self.answer(200, {"name": self.name(len(manager.versions))})

        def name(self, number):
            return f"projects/123/secrets/keys/versions/{number}"

        def answer(self, status, body):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    manager.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield manager
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def manager():
    with secret_manager() as running:
        yield running


@pytest.fixture
def secret(manager):
    return KeySecret(
        Secret("projects/p/secrets/keys", credentials=AnonymousCredentials(), service=manager.url)
    )


def test_a_key_in_secret_manager_counts_within_half_a_minute_everywhere(manager, secret, clock):
    first = create_key(secret, "ada", NOW)
    ring = ring_of(secret, clock)
    assert opens(ring, first)
    second = create_key(secret, "bob", NOW)
    assert not opens(ring, second)
    reads = manager.reads
    clock.advance(30)
    assert opens(ring, second)
    assert opens(ring, first)
    assert manager.reads == reads + 1


def test_while_secret_manager_is_away_the_keys_that_were_read_count_for_a_while(
    manager, secret, clock
):
    key = create_key(secret, "ada", NOW)
    ring = ring_of(secret, clock)
    manager.away = True
    clock.advance(30)
    assert opens(ring, key)
    reads = manager.reads
    assert opens(ring, key)
    assert manager.reads == reads  # not asked again at every request
    clock.advance(15 * 60)
    with pytest.raises(KeysUnavailable):
        ring.key_of(f"Bearer {key}")
    manager.away = False
    clock.advance(5)
    assert opens(ring, key)


def test_two_who_change_the_keys_at_once_both_have_their_change_kept(manager, secret):
    create_key(secret, "ada", NOW)
    other, entry = new_key("bob", NOW)

    def in_between():
        manager.before_an_add = lambda: None
        theirs = KeyDocument.read(manager.versions[-1]).with_key(entry)
        manager.versions.append(theirs.written().encode())

    manager.before_an_add = in_between
    mine = create_key(secret, "eve", NOW)
    ring = KeyRing(secret)
    assert {ring.key_of(f"Bearer {key}").owner for key in (mine, other)} == {"bob", "eve"}


def test_a_secret_without_keys_says_how_to_make_one(manager, secret):
    with pytest.raises(ConfigurationError, match="promptreel keys create"):
        KeyRing(secret)
    manager.versions.append(b"not keys")
    with pytest.raises(ConfigurationError, match="holds no key file"):
        KeyRing(secret)


def test_what_secret_manager_says_of_a_refusal_is_not_passed_on(manager, secret):
    manager.away = True
    with pytest.raises(KeysUnavailable) as caught:
        secret.load()
    assert "projects" not in caught.value.message


# --- what a key is good for


@pytest.fixture
def api(tmp_path):
    with running_api(
        tmp_path,
        plans={"free": {}, "pro": {"images_per_month": 1000}},
        limits={
            "wrong_keys_per_minute_per_address": 3,
            "requests_per_minute_per_key": 5,
            "requests_per_minute_per_address": 8,
        },
    ) as running:
        yield running


def client_with(api, **fields):
    key, entry = new_key("ada", api.clock.now, **fields)
    KeyFile(api.key_file).edit(lambda document: document.with_key(entry))
    return api.client_of(key)


def test_who_may_only_read_changes_nothing(api):
    reader = client_with(api, scopes=(Scope.READ,))
    assert reader.get("/v1/jobs").status_code == 200
    refused = reader.post("/v1/jobs", json={"prompt": "a cat"})
    assert_error(refused, 403, "scope_missing", "`write`")
    assert reader.delete("/v1/videos/job_1").status_code == 403
    assert api.jobs == 0


def test_who_may_only_write_sees_nothing(api):
    writer = client_with(api, scopes=(Scope.WRITE,))
    accepted = writer.post("/v1/jobs", json={"prompt": "a cat"})
    assert accepted.status_code == 202
    assert_error(writer.get(accepted.headers["Location"]), 403, "scope_missing", "`read`")


def test_a_key_may_bring_a_plan(api):
    assert client_with(api, plan="pro").get("/api/v1/usage").json["limit"] == 1000
    assert client_with(api).get("/api/v1/usage").json["plan"] == "free"
    # The configuration has it no more.
    assert client_with(api, plan="gold").get("/api/v1/usage").json["plan"] == "free"


def test_when_a_key_was_used_last_is_noted_now_and_then(api):
    client = client_with(api)
    client.get("/v1/jobs")
    first = api.clock.now
    api.clock.advance(599)
    client.get("/v1/jobs")
    (noted,) = api.wiring.store.key_uses().values()
    assert noted == first
    api.clock.advance(1)
    client.get("/v1/jobs")
    (noted,) = api.wiring.store.key_uses().values()
    assert noted == first + timedelta(seconds=600)


# --- how often


def wrong(api, **headers):
    key = "pr_00000000_" + "A" * 43
    return api.anonymous.get("/v1/jobs", headers={"Authorization": f"Bearer {key}", **headers})


def test_who_tries_keys_is_slowed_down_and_who_has_one_is_not(api):
    for _ in range(3):
        assert wrong(api).status_code == 401
    refused = wrong(api)
    assert_error(refused, 429, "too_many_requests", "Try again in")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert api.client.get("/v1/jobs").status_code == 200
    # Who forgot it altogether is told so.
    assert api.anonymous.get("/v1/jobs").status_code == 401


def test_a_key_asks_so_often_a_minute_and_another_one_is_not_kept_out(api):
    busy = client_with(api)
    for _ in range(5):
        assert busy.get("/v1/jobs").status_code == 200
    assert_error(busy.get("/v1/jobs"), 429, "too_many_requests")
    assert client_with(api).get("/v1/jobs").status_code == 200


def test_an_address_asks_so_often_a_minute_with_however_many_keys(api):
    for _ in range(2):
        client = client_with(api)
        for _ in range(4):
            assert client.get("/v1/jobs").status_code == 200
    assert_error(client_with(api).get("/v1/jobs"), 429, "too_many_requests")


def test_health_is_told_however_often_it_is_asked_for(api):
    for _ in range(10):
        assert api.anonymous.get("/healthz").status_code == 200


def test_the_limit_is_told_in_each_surfaces_words(api):
    client = client_with(api)
    for _ in range(5):
        client.get("/v1/jobs")
    assert client.get("/v1/videos").json["error"]["type"] == "rate_limit_error"
    assert client.get("/api/v1/usage").json["error"]["code"] == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(("proxies", "told_apart"), [(0, False), (1, True)])
def test_callers_behind_a_proxy_are_told_apart_if_it_is_trusted(tmp_path, proxies, told_apart):
    limits = {"wrong_keys_per_minute_per_address": 1}
    with running_api(tmp_path, limits=limits, server={"trusted_proxies": proxies}) as api:
        assert wrong(api, **{"X-Forwarded-For": "198.51.100.1"}).status_code == 401
        # What the caller itself has written stands before what the proxy adds.
        same = wrong(api, **{"X-Forwarded-For": "203.0.113.9, 198.51.100.1"})
        assert same.status_code == 429
        other = wrong(api, **{"X-Forwarded-For": "198.51.100.1, 198.51.100.2"})
        assert (other.status_code == 401) == told_apart


def test_one_owner_does_not_take_every_seat(tmp_path):
    with running_api(tmp_path, limits={"streams_per_owner": 1}) as api:
        job_id = api.submit()
        room = api.app.extensions["promptreel"].waiting_room
        seat = room.take_seat("ada")
        assert_error(api.client.get(f"/v1/jobs/{job_id}/events"), 503, "no_seat")
        assert room.take_seat("bob") is not None
        seat.leave()
        api.worker.render_next()
        assert api.client.get(f"/v1/jobs/{job_id}/events").status_code == 200


def test_who_comes_while_a_changed_file_is_read_waits_for_it(tmp_path, clock):
    class SlowFile(KeyFile):
        def load(self):
            document = super().load()
            read.set()
            go_on.wait(30)
            return document

    read, go_on = threading.Event(), threading.Event()
    go_on.set()
    source = SlowFile(tmp_path / "keys.json")
    add(source)
    ring = ring_of(source, clock)
    key, _ = add(source)
    read.clear()
    go_on.clear()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(opens, ring, key)
        assert read.wait(30)
        second = threads.submit(opens, ring, key)
        wait([second], timeout=0.5)  # long enough to be refused
        go_on.set()
        assert (first.result(), second.result()) == (True, True)


def test_a_broken_file_opens_no_door_however_often_it_is_tried(file, clock, tmp_path):
    key, _ = add(file)
    ring = ring_of(file, clock)
    assert opens(ring, key)
    (tmp_path / "keys.json").write_text("{")
    for _ in range(3):
        with pytest.raises(ConfigurationError):
            opens(ring, key)
