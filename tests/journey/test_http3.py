"""HTTP/1.1, 2 and 3 from one server: every surface behaves the same on each, and nobody ends it for others."""

import contextlib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from services.cli.client_key import client_key
from services.emulators.replicate import replicate_server
from shared.config import load_config
from tests.http3_client import Http3Transport
from tests.journey.installation import (
    http3_section,
    make_certificates,
    running_api,
    running_program,
    submit,
    wait_for,
    wait_until_answers,
)
from tests.journey.picture_installation import GENERATIONS, install_images
from tests.server_sent_events import events_of
from tests.unit.generations_under_test import photograph

PROTOCOLS = {"1.1": "HTTP/1.1", "2": "HTTP/2", "3": "HTTP/3"}
# Each reply's own.
OWN_HEADERS = {"date", "x-request-id", "connection", "transfer-encoding"}
SCRIPTED_WORKER = str(Path(__file__).with_name("scripted_worker.py"))


def transport_of(protocol, installation):
    if protocol == "3":
        return Http3Transport(installation.authority)
    trusting = ssl.create_default_context(cafile=installation.authority)
    return httpx.HTTPTransport(verify=trusting, http1=protocol == "1.1", http2=protocol == "2")


def client_of(protocol, installation, transport=None):
    """One that speaks this protocol and no other; a reply that did not come by it fails the test."""

    def check(reply):
        assert reply.http_version == PROTOCOLS[protocol]

    key = client_key(load_config(installation.config_file)).secret
    return httpx.Client(
        base_url=installation.secure_url,
        transport=transport or transport_of(protocol, installation),
        headers={"Authorization": f"Bearer {key}"},
        event_hooks={"response": [check]},
        timeout=60,
    )


@pytest.fixture(scope="module")
def provider():
    with replicate_server(seconds=0.2, polls=None) as provider:
        yield provider


@pytest.fixture(scope="module")
def house(tmp_path_factory, provider):
    """An API with few seats and little patience, and a worker that renders by script."""
    folder = tmp_path_factory.mktemp("http3")
    certificates = make_certificates(folder / "certificates")
    house = install_images(folder, folder / "no-model", provider)
    house.config["server"] |= {"threads": 6, "http3": http3_section(certificates, body_seconds=8)}
    house.config["images"]["input_max_bytes"] = 300_000
    house.config["worker"]["grace_seconds"] = 0.2
    house.config["limits"] = {"streams_per_owner": 1}
    house.config["plans"] = {"free": {"images_per_month": 100, "images_in_flight": 100}}
    house.write_config()
    client_key(load_config(house.config_file))
    with (
        running_api(house.config_file) as api,
        running_program([SCRIPTED_WORKER], house.config_file, name="worker"),
    ):
        wait_until_answers(house.url, api)
        yield house
        assert api.poll() is None, "no test may end it"


@pytest.fixture(scope="module")
def clients(house):
    with contextlib.ExitStack() as open_ones:
        yield {
            protocol: open_ones.enter_context(client_of(protocol, house)) for protocol in PROTOCOLS
        }


@pytest.fixture(params=PROTOCOLS)
def client(clients, request):
    return clients[request.param]


def seen(reply):
    """What a caller notices."""
    headers = {name: value for name, value in reply.headers.items() if name not in OWN_HEADERS}
    content = reply.content.replace(reply.headers["x-request-id"].encode(), b"")
    return reply.status_code, headers, content


def same(clients, method, path, **more):
    """The reply, which is the same whatever it was asked over."""
    replies = [client.request(method, path, **more) for client in clients.values()]
    assert seen(replies[0]) == seen(replies[1]) == seen(replies[2])
    return replies[2]


@pytest.mark.parametrize(
    ("status", "method", "path", "more"),
    [
        (200, "GET", "/healthz", {}),
        (200, "HEAD", "/healthz", {}),
        (200, "GET", "/docs", {}),
        (200, "GET", "/openapi.yaml", {}),
        (200, "HEAD", "/openapi.yaml", {}),
        (
            400,
            "POST",
            "/v1/jobs",
            {"content": b"{", "headers": {"Content-Type": "application/json"}},
        ),
        (400, "POST", "/v1/jobs", {}),
        (400, "POST", "/v1/jobs", {"json": {"prompt": ""}}),
        (401, "GET", "/v1/jobs", {"headers": {"Authorization": "Bearer none"}}),
        (404, "GET", "/v1/jobs/none", {}),
        (404, "GET", "/no/such/path?of=%C3%A9", {}),
        (404, "GET", "/%FF", {}),
        (405, "DELETE", "/v1/jobs", {}),
        (413, "POST", "/v1/jobs", {"json": {"prompt": "x" * 200_000}}),
        (
            415,
            "POST",
            "/v1/jobs",
            {"content": b"prompt", "headers": {"Content-Type": "text/plain"}},
        ),
        (422, "POST", "/generate", {"json": {"prompt": "a cat", "duration": -1}}),
    ],
)
def test_a_request_is_answered_alike(clients, status, method, path, more):
    assert same(clients, method, path, **more).status_code == status


def test_a_large_reply_arrives_whole(clients):
    assert len(same(clients, "GET", "/openapi.yaml").content) > 150_000


def test_a_video_is_fetched_whole_in_part_or_not_again(clients):
    job_id = submit(clients["3"], "ok")
    wait_for(clients["3"], job_id, "finished")
    link = same(clients, "GET", f"/outputs/{job_id}").headers["location"]
    path = httpx.URL(link).raw_path.decode()

    whole = same(clients, "GET", path)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    head = same(clients, "HEAD", path)
    assert (head.content, head.headers["content-length"]) == (b"", str(len(whole.content)))
    part = same(clients, "GET", path, headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, whole.content[1:4])
    assert same(clients, "GET", path, headers={"Range": "bytes=999999-"}).status_code == 416
    again = same(clients, "GET", path, headers={"If-None-Match": whole.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_picture_of_a_quarter_of_a_megabyte_is_taken_and_what_became_of_it_is_deleted(client):
    files = {"input1": ("boat.png", photograph(), "image/png")}
    ordered = client.post(GENERATIONS, data={"prompt": "make the boat red"}, files=files)
    assert ordered.status_code == 202, ordered.text
    path = ordered.headers["location"]
    deadline = time.monotonic() + 30
    while client.get(path).json()["status"] != "succeeded":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    deleted = client.delete(path)
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.parametrize("size", [400_000, 1_100_000])
def test_a_body_that_is_too_large_is_refused_in_the_usual_words(clients, size):
    # The smaller one is read whole, the larger one is beyond what anything here takes.
    files = {"input1": ("boat.png", bytes(size), "image/png")}
    refused = same(clients, "POST", GENERATIONS, data={"prompt": "a boat"}, files=files)
    assert refused.status_code in (400, 413)
    assert refused.json()["error"]["code"] == "VALIDATION_ERROR"


def test_a_body_that_does_not_say_its_length_is_read_all_the_same(client):
    def pieces():
        yield b'{"prompt": '
        yield b'"ok"}'

    headers = {"Content-Type": "application/json"}
    assert client.post("/v1/jobs", content=pieces(), headers=headers).status_code == 202


def test_events_come_while_it_renders_and_go_on_after_the_last_one_seen(client):
    job_id = submit(client, "slow")
    path = f"/v1/jobs/{job_id}/events"
    with client.stream("GET", path) as reply:
        events = events_of(reply.iter_raw())
        first = next(event for event in events if event.name == "log")
        # It renders until it is told to stop: whatever was seen so far was not kept back.
        assert client.post(f"/v1/jobs/{job_id}/cancel").json() == {"ok": True}
        told = [first, *events]
    assert (told[-1].name, told[-1].data["status"]) == ("end", "canceled")
    with client.stream("GET", path, headers={"Last-Event-ID": first.id}) as reply:
        later = list(events_of(reply.iter_raw()))
    logs = [event for event in told[1:] if event.name == "log"]
    assert [event.id for event in later if event.name == "log"] == [event.id for event in logs]


@contextlib.contextmanager
def followed(client, job_id):
    """The events of a job, once there is a seat for who follows it."""
    deadline = time.monotonic() + 30
    while True:
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
            if reply.status_code == 200:
                yield events_of(reply.iter_raw())
                return
        assert time.monotonic() < deadline, "the seat was not given back"
        time.sleep(0.1)


@contextlib.contextmanager
def rendering_for_ever(client):
    """A job that always has something to say."""
    job_id = submit(client, "flood")
    try:
        yield job_id
    finally:
        client.post(f"/v1/jobs/{job_id}/cancel")


# This installation's owner has one seat: whoever follows next gets it from whoever went away.


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_has_gone_away_gives_the_seat_back(house, clients, protocol):
    with rendering_for_ever(clients["3"]) as job_id:
        with client_of(protocol, house) as leaving, followed(leaving, job_id) as events:
            assert next(events).name == "job"
            assert clients["3"].get(f"/v1/jobs/{job_id}/events").status_code == 503
        with followed(clients["3"], job_id) as events:
            assert next(events).name == "job"


def test_who_asks_for_no_more_of_one_reply_gives_the_seat_back(clients):
    # The connection stays, with others on it.
    with rendering_for_ever(clients["3"]) as job_id:
        for _ in range(2):
            with followed(clients["3"], job_id) as events:
                assert next(events).name == "job"


def test_who_vanishes_without_a_word_gives_the_seat_back_too(house, clients):
    soon_given_up = Http3Transport(house.authority, dead_seconds=6)
    with (
        rendering_for_ever(clients["3"]) as job_id,
        client_of("3", house, soon_given_up) as lost,
        followed(lost, job_id) as events,
    ):
        assert next(events).name == "job"
        lost._transport.vanish()
        try:
            with followed(clients["3"], job_id) as next_events:
                assert next(next_events).name == "job"
        finally:
            lost._transport.come_back()


def test_a_body_that_dawdles_is_given_up(clients):
    def dawdle(client):
        def pieces():
            yield b'{"prompt": "'
            for _ in range(50):
                time.sleep(0.2)
                yield b"x"

        headers = {"Content-Type": "application/json"}
        return client.post("/v1/jobs", content=pieces(), headers=headers)

    with ThreadPoolExecutor() as together:
        for reply in together.map(dawdle, clients.values()):
            assert (reply.status_code, reply.json()["error"]["code"]) == (408, "body_too_slow")


def test_headers_without_end_cost_their_sender_the_request_and_nobody_else_anything(clients, house):
    for protocol in PROTOCOLS:
        with client_of(protocol, house) as greedy:
            try:
                long = {f"X-Long-{number}": "x" * 20_000 for number in range(8)}
                refused = greedy.get("/healthz", headers=long)
            except httpx.TransportError:
                continue  # the connection was closed: there is no cheaper answer
            assert refused.status_code == 431
    assert same(clients, "GET", "/healthz").status_code == 200


def test_a_path_that_is_no_text_is_its_senders_problem(clients, house):
    with client_of("3", house) as odd, contextlib.suppress(httpx.TransportError):
        odd.get("/", extensions={"target": b"/\xff\xfe"})
    assert same(clients, "GET", "/healthz").status_code == 200


def test_noise_is_not_answered_and_harms_nobody(clients, house):
    address = ("127.0.0.1", house.config["server"]["http3"]["port"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        for datagram in (b"", b"\x00", b"\xff" * 1200, bytes(range(256)) * 5):
            noise.sendto(datagram, address)
    with socket.create_connection(address) as noise:
        noise.sendall(b"\x16\x03\x01no TLS at all")
    assert same(clients, "GET", "/healthz").status_code == 200


def test_each_reply_says_where_http3_is(client, house):
    port = house.config["server"]["http3"]["port"]
    assert f'h3=":{port}"' in client.get("/healthz").headers["alt-svc"]


def test_the_log_says_by_which_protocol_a_request_came(client, house):
    reply = client.get("/healthz")
    line = next(
        line
        for line in (house.folder / "api.log").read_text().splitlines()
        if reply.headers["x-request-id"] in line
    )
    assert f'"protocol": "{reply.http_version}"' in line
