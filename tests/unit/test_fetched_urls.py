"""Every URL that others give us and that is fetched here: none leads into our own network, however it is written.

Where promises are the same, what fetches is asked the same; what is its own is in the tests of each.
"""

import ast
import ssl
from contextlib import suppress
from pathlib import Path

import httpcore
import pytest

from shared.adapters.images.downloads import Downloads
from shared.adapters.public_network import NotPublic, PublicNetwork
from shared.adapters.webhook_sender import WebhookSender
from shared.config_sections import Webhooks
from shared.errors import BackendUnavailable, InvalidRequest, OutputRefused
from shared.public_url import is_public
from shared.webhooks.endpoints import check_url
from shared.webhooks.sender import NoAnswer

ROOT = Path(__file__).parents[2]
PUBLIC = "93.184.216.34"
NAME = "reel.example"
# Trusts nobody, and is quickly made.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# What opens connections, and whose word it goes by. A new one is written down here, with its reason.
FETCHING = {
    "services/api/http3/certificate.py": "reads a certificate of ours",
    "services/api/main.py": "listens",
    "services/api/serving_process.py": "is woken by its own signals",
    "services/cli/rendering.py": "asks the server that it has started",
    "services/cli/service.py": "asks the server that it has started",
    "shared/adapters/gcp/gcs_links.py": "asks Google, where the configuration says",
    "shared/adapters/gcp/oidc.py": "asks Google for certificates, at an address of ours",
    "shared/adapters/gcp/secret_manager.py": "asks Google, at an address of ours",
    "shared/adapters/images/downloads.py": "goes by a provider's word: judged",
    "shared/adapters/images/replicate.py": "asks the provider that the configuration names",
    "shared/adapters/images/replicate_wire.py": "asks the provider that the configuration names",
    "shared/adapters/public_network.py": "judges",
    "shared/adapters/vertex/connection.py": "asks Google, where the configuration says",
    "shared/adapters/vertex/errors.py": "names what went wrong",
    "shared/adapters/webhook_sender.py": "goes by an owner's word: judged",
    "shared/client/awaiting.py": "asks the server that the user names",
    "shared/client/blocking.py": "asks the server that the user names",
    "shared/client/calls.py": "asks the server that the user names",
    "shared/client/server.py": "asks the server that the user names",
    "shared/settings.py": "knows the name of this machine",
    "shared/telemetry/exporting.py": "sends traces where the configuration says",
}
NETWORK = {"httpx", "httpcore", "requests", "socket", "ssl", "urllib3", "http", "aiohttp", "ftplib"}

PRIVATE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "0",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "localhost",
    "LOCALHOST",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "0.0.0.0",  # noqa: S104 - nobody listens
]


class Dialler(httpcore.NetworkBackend):
    """Connects nowhere, and keeps who was to be reached."""

    def __init__(self):
        self.dialled = []

    def connect_tcp(self, host, port, *_, **__):
        self.dialled.append((host, port))
        raise httpcore.ConnectError("nobody is there")


def send_webhook(url, **network):
    """As a courier does."""
    try:
        WebhookSender(Webhooks(), tls=TLS, **network).post(url, headers={}, body=b"{}")
    except NoAnswer as refused:
        return str(refused)
    raise AssertionError("somebody has answered")


def fetch_output(url, folder, **network):
    """As what a provider has made is fetched, with its host allowed."""
    host = url.partition("://")[2].partition("/")[0].lower()
    downloads = Downloads(hosts=[host], max_bytes=100, tls=TLS, sleep=lambda _: None, **network)
    try:
        downloads.fetch(url, folder / "file")
    except OutputRefused as refused:
        return str(refused)
    raise AssertionError("it was fetched")


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_no_way_to_write_a_private_address_is_called(host, tmp_path):
    dialler = Dialler()
    told = send_webhook(f"https://{host}/hooks", beneath=dialler)
    assert "not public" in told or "failed" in told  # failed: this machine knows no such name
    fetched = Dialler()
    with suppress(BackendUnavailable):  # as above
        assert fetch_output(f"https://{host}/0.jpg", tmp_path, beneath=fetched)
    assert dialler.dialled == fetched.dialled == []


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_no_way_to_write_a_private_address_passes_for_a_public_one(host):
    assert not is_public(host.strip("[]"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:10.0.0.1",
        "fe80::1%eth0",
        "fd00::1",
    ],
)
def test_a_name_that_leads_to_a_private_address_is_not_called(address, tmp_path):
    for resolved in ([address], [PUBLIC, address]):
        dialler = Dialler()
        network = {"resolve": lambda *_, there=resolved: there, "beneath": dialler}
        assert "not public" in send_webhook(f"https://{NAME}/hooks", **network)
        assert "not public" in fetch_output(f"https://{NAME}/0.jpg", tmp_path, **network)
        assert dialler.dialled == []


def test_a_name_that_leads_elsewhere_the_next_time_is_not_asked_a_second_time():
    """The address that was judged is the one that is called: there is no moment between to be used."""
    answers = [[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]]
    asked = []

    def rebinding(host, port):
        asked.append((host, port))
        return answers[len(asked) - 1]

    dialler = Dialler()
    told = send_webhook(f"https://{NAME}/hooks", resolve=rebinding, beneath=dialler)
    assert told == "The connection failed."
    assert asked == [(NAME, 443)]
    assert dialler.dialled == [(PUBLIC, 443)]
    # The next webhook is judged anew.
    assert "not public" in send_webhook(f"https://{NAME}/hooks", resolve=rebinding, beneath=dialler)
    assert dialler.dialled == [(PUBLIC, 443)]


def test_every_connection_of_a_pool_is_judged():
    answers = iter([[PUBLIC], ["10.0.0.1"]])
    dialler = Dialler()
    network = PublicNetwork(resolve=lambda *_: next(answers), beneath=dialler)
    with pytest.raises(httpcore.ConnectError):
        network.connect_tcp(NAME, 443)
    with pytest.raises(NotPublic):
        network.connect_tcp(NAME, 443)
    with pytest.raises(NotImplementedError):
        network.connect_unix_socket("/run/docker.sock")
    assert dialler.dialled == [(PUBLIC, 443)]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "unix:///run/docker.sock",
        "http://reel.example/",
        "https://ada@reel.example/",
        "https://reel.example\\@127.0.0.1/",
        "https://127.0.0.1#@reel.example/",
        "https://reel.example\r\nHost: 127.0.0.1/",
        "https://\u2488127.0.0.1/",
    ],
)
def test_a_url_that_two_readers_may_read_differently_is_nobodys(url):
    if "#@" not in url:  # which is plain, and leads to what is before it
        assert "URL" in send_webhook(url, beneath=Dialler())
    with pytest.raises(InvalidRequest):
        check_url(url, Webhooks())


def test_whatever_opens_connections_is_written_down_with_whose_word_it_goes_by():
    found = {
        str(file.relative_to(ROOT))
        for folder in ("services", "shared")
        for file in (ROOT / folder).rglob("*.py")
        if not {"emulators", "torture"} & set(file.parts) and _imports(file) & NETWORK
    }
    assert found - {"shared/client/errors.py"} <= set(FETCHING), found - set(FETCHING)
    assert set(FETCHING) <= found


def _imports(file):
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
            names |= {"http"} & {"http" for alias in node.names if alias.name == "urllib.request"}
        elif isinstance(node, ast.ImportFrom) and node.module not in {None, "http"}:
            names.add("http" if node.module == "urllib.request" else node.module.partition(".")[0])
    return names
