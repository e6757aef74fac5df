"""Fetching what a provider has made: from where it may be fetched, and no more than that."""

import socket
import ssl
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.emulators.replicate import API_TOKEN, replicate_server
from shared.adapters.images.downloads import Downloads
from shared.adapters.images.replicate import ReplicateImages
from shared.adapters.public_network import NotPublic, PublicNetwork, addresses_of
from shared.config_sections import Images, Replicate
from shared.errors import BackendUnavailable, ModelUnavailable, OutputRefused, PromptreelError
from shared.images.provider import Order
from shared.public_url import is_public

HOST = "a.replicate.delivery"
PUBLIC, ALSO_PUBLIC = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"
PATH = "/secret-word/0.jpg"
URL = f"https://{HOST}{PATH}"
HOSTS = ["replicate.delivery", "*.replicate.delivery"]
CONTENT = b"a picture" * 1000


class Dialer(httpcore.NetworkBackend):
    """Whoever is dialled, it is the server of this test that answers."""

    def __init__(self, port: int, *, silent: tuple[str, ...] = ()) -> None:
        self.dialled: list[tuple[str, int]] = []
        self._port = port
        self._silent = silent
        self._real = httpcore.SyncBackend()

    def connect_tcp(self, host, port, timeout=None, local_address=None, **_):
        self.dialled.append((host, port))
        if host in self._silent:
            raise httpcore.ConnectError("refused")
        return self._real.connect_tcp("127.0.0.1", self._port, timeout, local_address, [])


class Names:
    """A resolver that says what it is told to, one answer after the other."""

    def __init__(self, *answers: list[str] | Exception) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = list(answers)

    def __call__(self, host, port):
        self.asked.append((host, port))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server():
    with replicate_server(polls=0) as running:
        yield running


@pytest.fixture
def url(server, tmp_path):
    """Of a picture that the server has made."""
    (tmp_path / "token").write_text(API_TOKEN)
    images = ReplicateImages(Replicate(api_token_file=tmp_path / "token", base_url=server.url))
    made = images.create(Order(model="google/nano-banana", prompt="a zebra", aspect_ratio="1:1"))
    (output,) = images.read(made.id).outputs
    images.close()
    server.asked.clear()
    return output


@pytest.fixture
def target(tmp_path):
    (tmp_path / "fetched").mkdir()
    return tmp_path / "fetched" / "0.jpg"


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def fetch(server, target, pauses):
    """From the server's origin, unless it is said otherwise."""

    def fetched(url: str, **changes) -> bytes:
        settings = {"hosts": [server.url], "max_bytes": 1_000_000, "sleep": pauses.append}
        Downloads(**(settings | changes)).fetch(url, target)
        return target.read_bytes()

    return fetched


def assert_discreet(error: PromptreelError, url: str, *secrets: str) -> None:
    printed = [error.message, repr(error), *traceback.format_exception(error)]
    host = url.partition("//")[2].partition("/")[0]
    for secret in filter(None, (url, host, "secret-word", "secret.example", *secrets)):
        assert secret not in "".join(line for line in printed if 'File "' not in line)


def assert_nothing_left(target):
    assert list(target.parent.iterdir()) == []


# --- TLS of our own


def certificate(name: str, folder) -> ssl.SSLContext:
    """What a server of this name needs; what trusts it is in ``folder/trusted.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )
    public = signed.public_bytes(serialization.Encoding.PEM)
    (folder / "server.pem").write_bytes(private + public)
    (folder / "trusted.pem").write_bytes(public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


class SecureServer:
    """Replicate's delivery, on this machine."""

    def __init__(self, name: str, folder) -> None:
        self.hosts: list[str] = []
        secure = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                secure.hosts.append(self.headers["Host"])
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Whoever does not trust us hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = certificate(name, folder).wrap_socket(
            self._server.socket, server_side=True
        )
        self.port = self._server.server_port
        self.trusted = ssl.create_default_context(cafile=folder / "trusted.pem")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def secure(tmp_path):
    with SecureServer(HOST, tmp_path) as running:
        yield running


# --- from where


def test_a_picture_is_fetched_from_a_named_host_at_a_public_address(secure, fetch):
    names, dialer = Names([PUBLIC]), Dialer(secure.port)
    content = fetch(URL, hosts=HOSTS, resolve=names, beneath=dialer, tls=secure.trusted)
    assert content == CONTENT
    assert names.asked == [(HOST, 443)]
    assert dialer.dialled == [(PUBLIC, 443)]
    assert secure.hosts == [HOST]


def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_judged(secure, fetch):
    """A name that is public when it is judged and private when it is dialled gains nothing."""
    names, dialer = Names([PUBLIC], ["127.0.0.1"]), Dialer(secure.port)
    fetch(URL, hosts=HOSTS, resolve=names, beneath=dialer, tls=secure.trusted)
    assert dialer.dialled == [(PUBLIC, 443)]
    assert len(names.asked) == 1


def test_each_try_is_judged_anew(secure, fetch, target):
    names, dialer = Names([PUBLIC], ["10.0.0.1"]), Dialer(secure.port, silent=(PUBLIC,))
    with pytest.raises(OutputRefused):
        fetch(URL, hosts=HOSTS, resolve=names, beneath=dialer, tls=secure.trusted)
    assert dialer.dialled == [(PUBLIC, 443)]
    assert_nothing_left(target)


def test_the_next_address_is_tried_when_one_does_not_answer(secure, fetch):
    dialer = Dialer(secure.port, silent=(ALSO_PUBLIC,))
    names = Names([ALSO_PUBLIC, PUBLIC])
    fetch(URL, hosts=HOSTS, resolve=names, beneath=dialer, tls=secure.trusted)
    assert dialer.dialled == [(ALSO_PUBLIC, 443), (PUBLIC, 443)]


def test_a_server_that_is_not_the_named_one_is_not_believed(tmp_path, fetch, pauses, target):
    with SecureServer("other.example", tmp_path) as other:
        dialer = Dialer(other.port)
        with pytest.raises(BackendUnavailable) as caught:
            fetch(URL, hosts=HOSTS, resolve=Names([PUBLIC]), beneath=dialer, tls=other.trusted)
    assert other.hosts == []
    assert len(pauses) == 3
    assert_discreet(caught.value, URL)
    assert_nothing_left(target)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["127.8.8.8"],
        ["10.0.0.1"],
        ["172.16.0.1"],
        ["192.168.0.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["192.0.0.192"],
        ["198.18.0.1"],
        ["0.0.0.0"],  # noqa: S104 - nobody listens
        ["224.0.0.1"],
        ["255.255.255.255"],
        ["::"],
        ["::1"],
        ["fe80::1"],
        ["fe80::1%eth0"],
        ["fd00::1"],
        ["fec0::1"],
        ["ff0e::1"],
        ["2001:db8::1"],
        ["::ffff:127.0.0.1"],
        ["::ffff:169.254.169.254"],
        ["::127.0.0.1"],
        ["64:ff9b::10.0.0.1"],
        ["64:ff9b:1::1"],
        ["2002:7f00:1::1"],
        ["2001:0:5db8:d822::1"],
        ["no address"],
        [PUBLIC, "10.0.0.1"],
        ["::1", PUBLIC],
    ],
    ids=" ".join,
)
def test_nothing_is_fetched_from_an_address_that_is_not_public(fetch, pauses, target, addresses):
    dialer = Dialer(9)
    with pytest.raises(OutputRefused) as caught:
        fetch(URL, hosts=HOSTS, resolve=Names(addresses), beneath=dialer)
    assert dialer.dialled == []
    assert pauses == []
    assert_discreet(caught.value, URL, *addresses)
    assert_nothing_left(target)


@pytest.mark.parametrize(
    "address", [PUBLIC, ALSO_PUBLIC, "8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
)
def test_an_address_of_the_open_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.replicate.delivery/0.jpg",
        "//a.replicate.delivery/0.jpg",
        f"http://{HOST}/0.jpg",
        f"ftp://{HOST}/0.jpg",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        f"https://{HOST}:8443/0.jpg",
        f"https://{HOST}:0/0.jpg",
        f"https://{HOST}:x/0.jpg",
        f"https://{HOST}:99999/0.jpg",
        f"https://user@{HOST}/0.jpg",
        f"https://user:secret-word@{HOST}/0.jpg",
        f"https://@{HOST}/0.jpg",
        "https://secret.example/0.jpg",
        "https://replicate.delivery.secret.example/0.jpg",
        "https://evilreplicate.delivery/0.jpg",
        f"https://{HOST}.:443/0.jpg",
        f"https://secret.example\\.{HOST}/0.jpg",
        f"https://{HOST}\\@secret.example/0.jpg",
        f"https://secret.example#@{HOST}/0.jpg",
        f"https://secret.example?{HOST}",
        f"https://{HOST}/a b.jpg",
        f"https://{HOST}/0.jpg\r\nX: y",
        f"https://{HOST}/\t0.jpg",
        "https://\u24d0.replicate.delivery/0.jpg",
        "https://[::1",
        "https://[::1]/0.jpg",
        "https://127.0.0.1/0.jpg",
        "https://2130706433/0.jpg",
        f"https://{HOST}/{'a' * 9000}",
    ],
)
def test_nothing_is_fetched_from_where_nothing_may_be(fetch, target, url):
    names, dialer = Names([PUBLIC]), Dialer(9)
    with pytest.raises(OutputRefused) as caught:
        fetch(url, hosts=HOSTS, resolve=names, beneath=dialer)
    assert (names.asked, dialer.dialled) == ([], [])
    assert_discreet(caught.value, url)
    assert_nothing_left(target)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://replicate.delivery/0.jpg", "replicate.delivery"),
        ("https://A.B.Replicate.Delivery:443/0.jpg?x=1#top", "a.b.replicate.delivery"),
    ],
)
def test_a_host_is_named_by_itself_or_by_those_above_it(fetch, url, host):
    names = Names(socket.gaierror("unknown"))
    with pytest.raises(BackendUnavailable):
        fetch(url, hosts=HOSTS, resolve=names)
    assert set(names.asked) == {(host, 443)}


def test_the_operators_own_origin_is_fetched_from_wherever_it_is(server, fetch, url):
    assert fetch(url, hosts=[*HOSTS, f"{server.url}/"]).startswith(b"\xff\xd8")
    (asked,) = server.asked
    assert asked.headers["Host"] == server.url.partition("//")[2]
    assert "Authorization" not in asked.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://127.0.0.1:{port}",
        "http://127.0.0.1:9",
        "http://localhost:{port}",
        "http://127.0.0.1",
    ],
)
def test_the_operators_word_is_for_one_scheme_host_and_port(server, fetch, url, origin):
    port = server.url.rpartition(":")[2]
    with pytest.raises(OutputRefused):
        fetch(url, hosts=[origin.format(port=port), "127.0.0.1"])
    assert server.asked == []


@pytest.mark.parametrize("origin", ["ftp://a", "http://", "http://a/b", "http://u@a", "http://a:x"])
def test_an_origin_that_is_none_is_known_at_once(origin):
    with pytest.raises(ModelUnavailable, match=r"images\.replicate\.output_hosts"):
        Downloads(hosts=[origin], max_bytes=1)


def test_the_environments_proxies_are_not_asked(fetch, url, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(url)


def test_a_redirect_is_not_followed(server, fetch, url, target, pauses):
    for status in (301, 302, 303, 307, 308):
        server.script.redirect("file", f"{server.url}/files/secret-word/0.jpg", http=status)
        with pytest.raises(OutputRefused) as caught:
            fetch(url)
        assert_discreet(caught.value, url)
    assert len(server.asked) == 5
    assert pauses == []
    assert_nothing_left(target)


# --- how much, and how long


@pytest.mark.parametrize("announced", [True, False])
def test_what_is_too_large_is_not_taken(server, fetch, url, target, announced):
    server.script.pour(100_001, announced=announced)
    with pytest.raises(OutputRefused, match=r"images\.output_max_bytes") as caught:
        fetch(url, max_bytes=100_000)
    assert_discreet(caught.value, url)
    assert_nothing_left(target)
    server.script.pour(100_000, announced=announced)
    assert len(fetch(url, max_bytes=100_000)) == 100_000


def test_what_is_said_to_be_too_large_is_not_waited_for(server, fetch, url):
    server.script.send(b"", Content_Length=str(10**12))
    with pytest.raises(OutputRefused, match=r"images\.output_max_bytes"):
        fetch(url)


def test_what_comes_in_an_encoding_is_not_taken(server, fetch, url, target):
    server.script.send(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(OutputRefused):
        fetch(url)
    assert server.asked[0].headers["Accept-Encoding"] == "identity"
    assert_nothing_left(target)


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_again(server, fetch, url, target, status):
    server.script.fail("file", status)
    with pytest.raises(OutputRefused) as caught:
        fetch(url)
    assert len(server.asked) == 1
    assert_discreet(caught.value, url)
    assert_nothing_left(target)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_come_later_is_asked_for_again(server, fetch, url, pauses, status):
    server.script.fail("file", status, count=3)
    assert fetch(url).startswith(b"\xff\xd8")
    assert len(server.asked) == 4
    assert pauses == sorted(pauses)
    assert len(pauses) == 3
    assert 0 < sum(pauses) < 5


def test_what_does_not_come_after_three_more_tries_may_come_later(server, fetch, url, target):
    server.script.fail("file", 503, count=4)
    with pytest.raises(BackendUnavailable) as caught:
        fetch(url)
    assert (len(server.asked), server.script.pending) == (4, 0)
    assert_discreet(caught.value, url)
    assert_nothing_left(target)


def test_a_cut_connection_is_tried_again(server, fetch, url, pauses):
    server.script.hang_up("file")
    server.script.send(b"half", Content_Length="8")
    assert fetch(url).startswith(b"\xff\xd8")
    assert len(pauses) == 2


def test_a_server_that_is_silent_for_too_long_is_asked_again(server, fetch, url, pauses):
    server.script.delay("file", 60)
    assert fetch(url, request_seconds=1)
    assert len(pauses) == 1


def test_a_file_that_trickles_is_given_up_in_the_end(server, fetch, url, target, pauses):
    server.script.trickle(pause_seconds=0.05)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable) as caught:
        fetch(url, overall_seconds=0.5)
    assert time.monotonic() - started < 20
    assert pauses == []
    assert_discreet(caught.value, url)
    assert_nothing_left(target)


def test_no_pause_goes_beyond_the_end(server, fetch, url, pauses):
    server.script.fail("file", 503, count=4)
    with pytest.raises(BackendUnavailable):
        fetch(url, overall_seconds=0.6, clock=lambda: sum(pauses))
    assert pauses == [0.2]


def test_a_name_that_does_not_resolve_may_do_so_later(fetch, pauses):
    names = Names(socket.gaierror(f"{HOST} unknown"))
    with pytest.raises(BackendUnavailable) as caught:
        fetch(URL, hosts=HOSTS, resolve=names)
    assert len(pauses) == 3
    assert_discreet(caught.value, URL)


def test_a_file_that_was_there_before_stays_until_the_new_one_is_whole(server, fetch, url, target):
    target.write_bytes(b"before")
    server.script.fail("file", 404)
    with pytest.raises(OutputRefused):
        fetch(url)
    assert target.read_bytes() == b"before"
    assert fetch(url) != b"before"


def test_the_configuration_says_from_where_and_how_much(server, url, target):
    section = Images(output_max_bytes=100, replicate=Replicate(output_hosts=[server.url]))
    with pytest.raises(OutputRefused, match=r"images\.output_max_bytes"):
        Downloads.of(section).fetch(url, target)
    with pytest.raises(OutputRefused, match=r"images\.replicate\.output_hosts"):
        Downloads.of(Images()).fetch(url, target)


# --- the network by itself


def test_a_host_that_somebody_vouches_for_is_not_judged_and_no_other_port_of_it():
    dialer = Dialer(9, silent=("127.0.0.1",))
    network = PublicNetwork(also={("127.0.0.1", 80)}, beneath=dialer)
    with pytest.raises(httpcore.ConnectError):
        network.connect_tcp("127.0.0.1", 80)
    with pytest.raises(NotPublic):
        network.connect_tcp("127.0.0.1", 81)
    assert dialer.dialled == [("127.0.0.1", 80)]


def test_a_name_without_an_address_is_nowhere():
    with pytest.raises(httpcore.ConnectError):
        PublicNetwork(resolve=Names([])).connect_tcp(HOST, 443)


def test_when_the_time_is_over_nobody_is_dialled():
    dialer = Dialer(9)
    network = PublicNetwork(until=1, resolve=Names([PUBLIC]), beneath=dialer, clock=lambda: 1)
    with pytest.raises(httpcore.ConnectTimeout):
        network.connect_tcp(HOST, 443)
    assert dialer.dialled == []


def test_the_systems_own_resolver_says_where_this_machine_is():
    assert all(ip_address(address).is_loopback for address in addresses_of("localhost", 80))
    with pytest.raises(NotPublic):
        PublicNetwork().connect_tcp("localhost", 80)
