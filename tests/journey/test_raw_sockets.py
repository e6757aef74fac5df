"""Raw sockets against a real API: who sends or reads slowly, too much or oddly keeps nobody waiting, and gets nowhere."""

import json
import re
import socket
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest

from services.api.keys.sources import KeyFile, create_key
from shared.config import load_config
from shared.wiring import wire
from tests.journey.installation import free_port, install, running_program, wait_until_answers

# More than there are threads, with those beside that bodies and files have.
MANY = 40
# As it is started, but for how long it waits for the headers of a request.
SERVE = "from services.api import main; main._HEADER_READ_MILLISECONDS = 1000; main._main()"
LINES = re.MULTILINE | re.DOTALL | re.IGNORECASE
BIG_FILE = "videos/2026-01/job_1/final_video.mp4"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    installation = install(folder, folder, server={"port": free_port(), "threads": 8})
    # Granian is meant, always: what Hypercorn makes of the like is in test_http3.py.
    installation.config["server"].pop("http3", None)
    installation.write_config()
    source = KeyFile(load_config(installation.config_file).server.key_file)
    installation.keys = {
        name: create_key(source, name, datetime.now(UTC)) for name in ("ada", "bob")
    }
    with running_program(["-c", SERVE], installation.config_file, name="api") as process:
        wait_until_answers(installation.url, process)
        yield installation


@pytest.fixture
def connect(api):
    with ExitStack() as connections:

        def connect(first: bytes) -> socket.socket:
            address = ("127.0.0.1", api.config["server"]["port"])
            connection = connections.enter_context(socket.create_connection(address, timeout=30))
            connection.sendall(first)
            return connection

        yield connect


def request(method: str, path: str, *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: reel.example", *headers, "", ""]
    return "\r\n".join(lines).encode()


def submission(key: str) -> bytes:
    """A body of a hundred bytes is announced, and three of them come."""
    of_key = f"Authorization: Bearer {key}"
    headers = request("POST", "/v1/jobs", of_key, "Content-Type: application/json")
    return headers[:-2] + b'Content-Length: 100\r\n\r\n{"p'


def submit_as(api, name):
    with api.client(key=api.keys[name]) as client:
        return client.post("/v1/jobs", json={"prompt": "a cat"})


def status_of(connection: socket.socket) -> int:
    return int(connection.recv(1000).split()[1])


def wait_for_status(ask, status):
    deadline = time.monotonic() + 20
    while (reply := ask()).status_code != status:
        assert time.monotonic() < deadline, reply.text
        time.sleep(0.1)
    return reply


def test_who_sends_bodies_that_do_not_come_keeps_nobody_else_waiting(api, connect):
    held = [connect(submission(api.keys["ada"])) for _ in range(MANY)]
    assert submit_as(api, "bob").status_code == 202
    assert httpx.get(f"{api.url}/healthz").is_success
    with api.client(key=api.keys["ada"]) as client:
        assert client.get("/v1/jobs").is_success
    refused = submit_as(api, "ada")
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    # Most of them have been sent away; of a few it is waited whether they still come.
    for connection in held:
        connection.close()
    wait_for_status(lambda: submit_as(api, "ada"), 202)


def test_strangers_bodies_keep_nobody_waiting_who_has_a_key(api, connect):
    path = "/api/v1/webhooks/replicate"
    body = b"Content-Length: 100\r\n\r\n{"
    for _ in range(MANY):
        connect(request("POST", path, "Content-Type: application/json")[:-2] + body)
    for name in ("ada", "bob"):
        assert submit_as(api, name).status_code == 202
    assert httpx.get(f"{api.url}/healthz").is_success


def test_who_fetches_files_and_does_not_read_them_keeps_nobody_waiting(api, connect):
    file = api.folder / "state" / "artifacts" / "promptreel" / BIG_FILE
    file.parent.mkdir(parents=True)
    with file.open("wb") as made:
        made.truncate(200_000_000)
    with closing(wire(load_config(api.config_file))) as wiring:
        link = wiring.artifacts.link(BIG_FILE, expires_in_seconds=600, now=datetime.now(UTC)).url
    held = [connect(request("GET", link)) for _ in range(MANY)]
    wait_for_status(lambda: httpx.get(f"{api.url}{link}", headers={"Range": "bytes=0-9"}), 503)
    for name in ("ada", "bob"):
        assert submit_as(api, name).status_code == 202
    assert httpx.get(f"{api.url}/healthz").is_success
    for connection in held:
        connection.close()
    again = wait_for_status(
        lambda: httpx.get(f"{api.url}{link}", headers={"Range": "bytes=0-9"}), 206
    )
    assert len(again.content) == 10


@pytest.mark.parametrize(
    "first", [b"", b"GET /heal", b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: b"]
)
def test_headers_that_do_not_come_are_not_waited_for(connect, first):
    assert connect(first).recv(1000) == b""


@pytest.mark.parametrize(
    "headers",
    [["X-A: " + "a" * 1_000_000], [f"X-{n}: a" for n in range(1000)]],
    ids=["long", "many"],
)
def test_headers_that_are_too_much_are_refused_by_the_server(api, connect, headers):
    assert status_of(connect(request("GET", "/healthz", *headers))) == 431
    assert httpx.get(f"{api.url}/healthz").is_success


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: -1"],
        ["Content-Length: 5, 6"],
        ["Transfer-Encoding: chunked, identity"],
        ["X-A : b"],
        ["X-A: b\r\n folded: yes", " x: y"],
        ["X\x00A: b"],
    ],
    ids=lambda headers: headers[0][:24].encode("unicode_escape").decode(),
)
def test_what_two_servers_might_read_differently_is_refused(connect, headers):
    assert status_of(connect(request("POST", "/v1/jobs", *headers))) == 400


def test_of_two_ways_to_say_how_long_a_body_is_none_smuggles_a_request(api, connect):
    inner = request("GET", "/healthz")
    both = ["Content-Length: 4", "Transfer-Encoding: chunked"]
    connection = connect(request("POST", "/v1/jobs", *both) + b"0\r\n\r\n" + inner)
    assert status_of(connection) in {400, 401}


# --- what is in a path or a header, and where it must not get


@pytest.mark.parametrize(
    "path",
    [
        "/outputs/../../keys.json",
        "/outputs/..%2f..%2fkeys.json",
        "/outputs/%2e%2e/%2e%2e/signing.key",
        "/outputs/..\\..\\keys.json",
        "/outputs//etc/passwd",
        "/outputs/%2fetc%2fpasswd",
        "/outputs/videos%00.mp4",
        "/docs/assets/../../../../promptreel.yaml",
        "/docs/assets/..%2f..%2fapp.py",
        "//etc/passwd",
        "/v1/jobs/..%2f..%2fkeys.json",
    ],
)
def test_no_path_leads_out_of_what_is_served(connect, path):
    for asked in (path, f"{path}?expires=9999999999&key_id=&signature=0"):
        reply = connect(request("GET", asked)).recv(4000).decode()
        # Two slashes are led to one: of this server, and no further.
        while led := re.search(
            r"^HTTP/1.1 308.*^location: http://reel.example(/\S*)", reply, LINES
        ):
            reply = connect(request("GET", led[1])).recv(4000).decode()
        assert int(reply.split()[1]) in {400, 401, 403, 404}, reply


def test_nothing_that_is_sent_becomes_a_header_or_a_line_of_the_log(api, connect):
    planted = "X-Planted: yes"
    line = '{"message": "planted"}'
    for path, header in (
        (f"/v1/jobs/%0d%0a{quote(planted)}", "X-A: b"),
        (f"/v1/jobs/a%0a{quote(line)}", "X-A: b"),
        (f"/outputs/%0d%0a{quote(planted)}?signature=%0d%0a{quote(planted)}", "X-A: b"),
        ("/v1/jobs", f"X-Request-ID: a\t{line}"),
        ("/v1/jobs", "X-Request-ID: \x1b[31mred\x1b[0m"),
        ("/v1/jobs", f"traceparent: {line}"),
        ("/v1/jobs", f"Authorization: Bearer {line}"),
    ):
        connection = connect(request("GET", path, header))
        reply = connection.recv(4000)
        assert b"x-planted" not in reply.partition(b"\r\n\r\n")[0].lower(), path
        assert b"\x1b" not in reply, header
    with api.client(key=api.keys["ada"]) as client:
        said = {"prompt": f"a cat\n{line}"}
        assert client.post("/v1/jobs", json=said, headers={"Idempotency-Key": line}).is_success
    lines = (api.folder / "api.log").read_text().splitlines()
    assert len(lines) > 10
    assert all("planted" not in str(json.loads(each).get("message")) for each in lines)
    assert not [each for each in lines if "\x1b" in each]
