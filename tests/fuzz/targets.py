"""What parses that which strangers send: each takes any bytes, and raises for none but what it is written to raise.

A target is a function of bytes, with a few inputs to begin with that get through. ``fuzz.py`` has atheris look for
other ones for minutes; ``tests/unit/test_fuzz_targets.py`` has hypothesis do so for seconds.
"""

import base64
import hashlib
import hmac
import io
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl

import structlog
import yaml
from flask import Flask
from google.auth import jwt
from PIL import Image
from standardwebhooks.webhooks import Webhook
from werkzeug.exceptions import HTTPException

from services.api.app import create_app
from services.api.bodies import read_body, starting_picture
from services.api.images.webhook import read_webhook
from services.api.keys.document import KeyDocument, new_key, presented
from services.api.keys.ring import KeyRing
from services.api.keys.sources import KeyFile, create_key
from shared.adapters.gcp.oidc import CallerCheck
from shared.adapters.gcp.push_envelope import parse_push
from shared.adapters.images.replicate import prediction_of
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets, id_of
from shared.config import Config, load_config
from shared.config_sections import Replicate
from shared.errors import (
    ArtifactExpired,
    ConfigurationError,
    InvalidRequest,
    LinkTampered,
    MalformedBody,
    UnreadableMessage,
    UntrustedCaller,
    WebhookRefused,
)
from shared.messages import Message, decode, encode
from shared.public_url import is_public, read_url
from shared.wiring import wire

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = b"s" * 32
WEBHOOK_SECRET = "whsec_" + base64.b64encode(SECRET).decode()
FILE = "videos/2026-01/job_1/final_video.mp4"


@dataclass(frozen=True)
class Target:
    try_it: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    memory = Path("/dev/shm")  # noqa: S108 - below it, a folder for this user only is made
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def folder() -> Path:
    """Of this process: what is written here is read at once, and needs no disk."""
    return Path(_folder().name)


# --- Pub/Sub


_PUSHED = (
    b'{"message": {"data": "eyJqb2JfaWQiOiAiam9iXzEifQ==", "messageId": "1"}, "deliveryAttempt": 2}'
)
_EVENT = b'{"type": "google.cloud.pubsub.topic.v1.messagePublished", "data": ' + _PUSHED + b"}"
_HEADERS: tuple[Mapping[str, str], ...] = (
    {"Content-Type": "application/json"},
    {"Content-Type": "application/cloudevents+json"},
    {"ce-type": "google.cloud.pubsub.topic.v1.messagePublished"},
    {"ce-type": "another"},
)


def envelope(data: bytes) -> None:
    """The first byte says how it is sent."""
    headers = _HEADERS[data[0] % len(_HEADERS)] if data else {}
    try:
        pushed = parse_push(headers, data[1:])
    except UnreadableMessage:
        return
    assert decode(encode(pushed.message)) == pushed.message
    assert isinstance(pushed.message_id, str)


def message(data: bytes) -> None:
    try:
        read = decode(data)
    except UnreadableMessage:
        return
    assert decode(encode(read)) == read
    assert isinstance(read, Message)


# --- what callers send


def json_body(data: bytes) -> None:
    try:
        value = app().json.loads(data)
    except MalformedBody:
        return
    # What was let in can be stored, and sent again.
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def _picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), "navy").save(content, "PNG")
    return content.getvalue()


def _form(*parts: tuple[str, bytes]) -> bytes:
    lines = [
        b"--x\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (said.encode(), content)
        for said, content in parts
    ]
    return b"".join(lines) + b"--x--\r\n"


@cache
def app() -> Flask:
    file = folder() / "app.yaml"
    file.write_text(yaml.safe_dump({"data_dir": "state"}))
    config = load_config(file)
    create_key(KeyFile(config.server.key_file), "ada", NOW)
    return create_app(wire(config), KeyRing(KeyFile(config.server.key_file)))


def form(data: bytes) -> None:
    """A multipart body with a picture, as the surfaces for pictures and videos read it."""
    content_type = "multipart/form-data; boundary=x"
    with app().test_request_context(
        "/v1/videos", method="POST", data=data, content_type=content_type
    ):
        try:
            received = read_body(["input_reference"])
            for name, content in received.files.items():
                starting_picture(name, content)
        except (InvalidRequest, HTTPException):
            return
    assert all(isinstance(value, str) for value in received.fields.values())


# --- what is signed


@cache
def webhook_config() -> Replicate:
    file = folder() / "webhook.secret"
    file.write_text(WEBHOOK_SECRET)
    return Replicate(webhook_secret_file=file)


def webhook(data: bytes) -> None:
    """The first line is the signature; an empty one is replaced by the right one."""
    said, _, body = data.partition(b"\n")
    signature, now = said.decode("latin-1"), datetime.now(UTC)
    if signed := not said:
        try:
            signature = Webhook(WEBHOOK_SECRET).sign("msg_1", now, body.decode())
        except UnicodeDecodeError:
            return
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    try:
        payload = read_webhook(body, headers, webhook_config())
    except (WebhookRefused, MalformedBody):
        return
    assert signed, "it came in without its signature"
    try:
        prediction_of(payload)
    except ValueError:
        return


@cache
def store() -> DiskArtifacts:
    made = DiskArtifacts(
        folder() / "artifacts", bucket="bucket", signing=lambda: SigningSecrets(SECRET)
    )
    (folder() / "clip").write_bytes(b"a clip")
    made.put(FILE, folder() / "clip", content_type="video/mp4")
    return made


def link(data: bytes) -> None:
    """A path and a query, as they come: but for the one that is signed, none opens anything."""
    path, _, query = data.decode("latin-1").partition("?")
    said = dict(parse_qsl(query, keep_blank_values=True))
    good = dict(parse_qsl(_GOOD_LINK.partition("?")[2]))
    fields = {name: said.get(name, "") for name in ("expires", "key_id", "signature")}
    try:
        opened = store().open_link(path, method="GET", now=NOW, **fields)
    except (LinkTampered, ArtifactExpired):
        return
    # A link need not name its secret, and the moment may have zeros before it.
    assert path == FILE
    assert int(fields["expires"]) == int(good["expires"])
    assert fields["signature"] == good["signature"]
    assert opened.read_bytes() == b"a clip"


_EXPIRES = int(NOW.timestamp()) + 60
_SIGNED = hmac.new(SECRET, f"GET\n{FILE}\n{_EXPIRES}".encode(), hashlib.sha256).hexdigest()
_GOOD_LINK = f"{FILE}?expires={_EXPIRES}&key_id={id_of(SECRET)}&signature={_SIGNED}"


_CLAIMS = {"iss": "https://accounts.google.com", "aud": "https://api", "exp": 2**40}
_CALLER = {"email": "scheduler@example.com", "email_verified": True}


def _token(**claims: object) -> bytes:
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "RS256"}, {**_CLAIMS, **_CALLER, **claims})
    ]
    return b".".join(parts)


def token(data: bytes) -> None:
    """Of Google's, where Cloud Run has checked its signature: what it says is still looked at."""
    check = CallerCheck(
        audience="https://api", service_account="scheduler@example.com", checked_by_cloud_run=True
    )
    try:
        check.check(f"Bearer {data.decode('latin-1')}.SIGNATURE_REMOVED_BY_GOOGLE")
    except UntrustedCaller:
        return
    claims = jwt.decode(f"{data.decode('latin-1').strip()}.AAAA", verify=False)
    assert claims["iss"] in {"https://accounts.google.com", "accounts.google.com"}
    assert claims["aud"] == "https://api"
    assert claims["email"] == "scheduler@example.com"
    assert claims["email_verified"] is True


# --- files of the operator


def configuration(data: bytes) -> None:
    file = folder() / "promptreel.yaml"
    file.write_bytes(data)
    try:
        config = load_config(file)
    except ConfigurationError as error:
        assert str(file) in str(error)
        return
    assert isinstance(config, Config)
    assert config.data_dir.is_absolute()


def key_file(data: bytes) -> None:
    try:
        document = KeyDocument.read(data)
    except ValueError as error:
        # It quotes nothing of the file, which may be a secret that lies there by mistake.
        assert str(error) == "is not a key file"
        return
    assert KeyDocument.read(document.written()) == document


def authorization(data: bytes) -> None:
    found = presented(data.decode("latin-1"))
    if found is not None:
        key_id, secret = found
        assert f"pr_{key_id}_{secret}" in data.decode("latin-1")


# --- where others lead us


def url(data: bytes) -> None:
    said = data.decode("latin-1")
    try:
        place = read_url(said)
    except ValueError:
        return
    assert place.scheme in {"http", "https"}
    assert 0 <= place.port <= 65535
    assert not set("@/\\?# \r\n\t") & set(place.host)
    assert "@" not in place.netloc
    assert not set(" \r\n\t") & set(place.target)
    if is_public(place.host):
        ip = ip_address(place.host)
        assert ip.is_global
        assert not ip.is_private
        assert not ip.is_loopback


_CONFIGURATION = (Path(__file__).parents[2] / "config" / "promptreel.yaml").read_bytes()
_KEY, _ENTRY = new_key("ada", NOW)
_PREDICTION = b'{"id": "p1", "status": "succeeded", "output": ["https://a/0.jpg"], "error": null}'

TARGETS: Mapping[str, Target] = {
    "envelope": Target(envelope, (b"\x00" + _PUSHED, b"\x01" + _EVENT, b"\x02" + _PUSHED)),
    "message": Target(message, (b'{"job_id": "job_1", "traceparent": "00-a-b-01"}',)),
    "json_body": Target(json_body, (b'{"prompt": "a cat", "n": [1, -2.5e3, true, null]}',)),
    "form": Target(
        form,
        (
            _form(
                ('name="prompt"', b"a cat"),
                ('name="input_reference"; filename="a.png"', _picture()),
            ),
        ),
    ),
    "webhook": Target(webhook, (b"\n" + _PREDICTION, b"v1,AAAA\n" + _PREDICTION)),
    "link": Target(link, (_GOOD_LINK.encode(), f"{FILE}?expires=1&signature=0".encode())),
    "token": Target(token, (_token(), _token(email="another@example.com"))),
    "configuration": Target(configuration, (_CONFIGURATION, b"server: {port: 1}\n", b"")),
    "key_file": Target(key_file, (KeyDocument(keys=(_ENTRY,)).written().encode(),)),
    "authorization": Target(authorization, (f"Bearer {_KEY}".encode(),)),
    "url": Target(
        url, (b"https://reel.example:8443/a?b=c", b"https://[2606:2800::1]/", b"http://1.2.3.4/")
    ),
}


def keep_quiet() -> None:
    """A fuzzer asks a thousand times a second; what is refused is nothing to log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
