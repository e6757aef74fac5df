"""The API that serves HTTP/3 by itself: how it starts, what keeps it from starting, and how it ends."""

import datetime as dt
import json
import signal
import socket
import ssl
import subprocess

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from services.api.keys.sources import KeyFile, create_key
from tests.dockerfiles import ROOT
from tests.http3_client import Http3Transport
from tests.server_sent_events import events_of
from tests.unit.api_under_test import PROMPT
from tests.unit.test_api_main import MODULE, answers, run_to_its_end, serving, wait_until

MAKE_CERTIFICATES = ROOT / "deploy/edge/make_certificates.sh"
NOW = dt.datetime.now(dt.UTC)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "certificates"
    subprocess.run([MAKE_CERTIFICATES, folder, "127.0.0.1", "other"], check=True)
    return folder


@pytest.fixture
def section(certificates):
    return {
        "port": free_port(),
        "certificate_file": "certificates/127.0.0.1.pem",
        "key_file": "certificates/127.0.0.1.key",
    }


@pytest.fixture
def config_file(tmp_path, section):
    file = tmp_path / "promptreel.yaml"
    create_key(KeyFile(tmp_path / "state" / "keys.json"), "grace", NOW)
    server = {"port": free_port(), "http3": section}
    file.write_text(yaml.safe_dump({"data_dir": "state", "server": server}))
    return file


@pytest.fixture
def key(config_file):
    return create_key(KeyFile(config_file.parent / "state" / "keys.json"), "ada", NOW)


def change(config_file, **section):
    config = yaml.safe_load(config_file.read_text())
    config["server"]["http3"] |= section
    config_file.write_text(yaml.safe_dump(config))


def refused(config_file):
    """Why it does not start: one line, and no work was begun."""
    ended = run_to_its_end(config_file)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert str(config_file) in line
    return line


def self_made(folder, *, is_authority=False, days=1, names=("127.0.0.1",)):
    """A certificate without an authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "here")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - dt.timedelta(days=9))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if names:
        told = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(told, critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (folder / "self.pem").write_bytes(pem)
    (folder / "self.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return {"certificate_file": "self.pem", "key_file": "self.key"}


@pytest.mark.parametrize("event_loop", ["trio", "asyncio"])
def test_it_answers_over_every_protocol_and_in_plain(config_file, section, key, event_loop):
    change(config_file, event_loop=event_loop)
    port = yaml.safe_load(config_file.read_text())["server"]["port"]
    authority = config_file.parent / "certificates" / "ca.pem"
    trusting = ssl.create_default_context(cafile=authority)
    transports = {
        "HTTP/1.1": httpx.HTTPTransport(verify=trusting),
        "HTTP/2": httpx.HTTPTransport(verify=trusting, http1=False, http2=True),
        "HTTP/3": Http3Transport(authority),
    }
    with serving(config_file, MODULE) as process:
        wait_until(lambda: answers(port))
        for protocol, transport in transports.items():
            with httpx.Client(
                transport=transport,
                base_url=f"https://127.0.0.1:{section['port']}",
                headers={"Authorization": f"Bearer {key}"},
            ) as client:
                made = client.post("/v1/jobs", json={"prompt": PROMPT})
                assert (made.http_version, made.status_code) == (protocol, 202)
                assert client.head("/healthz").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    lines = (config_file.parent / "log").read_text().splitlines()
    assert {json.loads(line)["severity"] for line in lines} == {"INFO"}


def test_told_to_stop_it_lets_go_whoever_follows_a_job_and_ends(config_file, section, key):
    port = yaml.safe_load(config_file.read_text())["server"]["port"]
    with (
        serving(config_file, MODULE) as process,
        httpx.Client(
            transport=Http3Transport(config_file.parent / "certificates" / "ca.pem"),
            base_url=f"https://127.0.0.1:{section['port']}",
            headers={"Authorization": f"Bearer {key}"},
        ) as client,
    ):
        wait_until(lambda: answers(port))
        job_id = client.post("/v1/jobs", json={"prompt": PROMPT}).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job_id}/events") as reply:
            events = events_of(reply.iter_raw())
            assert next(events).name == "job"
            process.send_signal(signal.SIGTERM)
            assert list(events) == []
        assert process.wait(10) == 0


def test_a_taken_udp_port_is_one_line_that_says_what_to_do(config_file, section):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", section["port"]))
        line = refused(config_file)
    assert "server.http3.port" in line
    assert "choose another" in line


def test_a_file_that_is_not_there_is_named(config_file):
    change(config_file, key_file="certificates/none.key")
    line = refused(config_file)
    assert "server.http3.key_file" in line
    assert "none.key" in line


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"is_authority": True}, "certificate authority"),
        ({"days": -1}, "expired"),
        ({"names": ()}, "subjectAltName"),
    ],
)
def test_a_certificate_that_clients_would_refuse_is_refused_here(config_file, made, said):
    change(config_file, **self_made(config_file.parent, **made))
    line = refused(config_file)
    assert "server.http3.certificate_file" in line
    assert said in line


def test_a_file_that_is_no_certificate_is_refused(config_file):
    change(config_file, certificate_file="promptreel.yaml")
    assert "is no PEM certificate" in refused(config_file)


def test_a_key_of_another_certificate_is_refused(config_file):
    change(config_file, key_file="certificates/other.key")
    assert "server.http3.key_file" in refused(config_file)


def test_keys_and_certificates_that_are_there_are_not_overwritten(certificates):
    before = {file.name: file.read_bytes() for file in certificates.iterdir()}
    again = subprocess.run(
        [MAKE_CERTIFICATES, certificates, "new", "other"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert "other.pem is there already" in again.stderr
    assert {file.name: file.read_bytes() for file in certificates.iterdir()} == before


def test_keys_are_for_their_owner_alone(certificates):
    assert {file.stat().st_mode & 0o777 for file in certificates.glob("*.key")} == {0o600}
