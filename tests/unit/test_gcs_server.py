"""Our Cloud Storage server does what Google's does: a test against it must not pass by its mistake."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google_crc32c
import httpx
import pytest
from google.cloud import storage
from google.oauth2.service_account import Credentials

from services.emulators.gcs import RUNS_AS, GcsServer, gcs_server

NAME = "videos/a clip.mp4"
CHUNK = 256 * 1024


@pytest.fixture
def gcs() -> Iterator[GcsServer]:
    with gcs_server(buckets=["private"], public_buckets=["public"]) as server:
        yield server


@pytest.fixture
def http(gcs) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gcs.url) as client:
        yield client


@pytest.fixture
def upload(http) -> Callable[..., httpx.Response]:
    def post(content: bytes = b"bytes", *, bucket: str = "private", headers=None, **query):
        return http.post(
            f"/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": NAME, **query},
            content=content,
            headers=headers,
        )

    return post


@pytest.fixture
def download(http) -> Callable[[], httpx.Response]:
    return lambda **query: http.get(
        f"/storage/v1/b/private/o/{NAME.replace('/', '%2F')}", params={"alt": "media", **query}
    )


@pytest.fixture
def client(gcs, tmp_path, monkeypatch) -> Iterator[storage.Client]:
    """Google's own client, with a key."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no test speaks to Google
    gcs.write_key_file(tmp_path / "key.json")
    with storage.Client(credentials=credentials(tmp_path), project="demo-promptreel") as client:
        yield client


def credentials(folder: Path) -> Credentials:
    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    return Credentials.from_service_account_file(folder / "key.json", scopes=scopes)


# --- objects


def test_an_object_is_created_once_under_generation_0(upload, download):
    assert upload(b"first", ifGenerationMatch=0).status_code == 200
    refused = upload(b"second", ifGenerationMatch=0)
    assert refused.status_code == 412
    assert refused.json()["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert download().content == b"first"


def test_an_object_is_replaced_only_in_the_generation_that_was_named(upload, download):
    first = int(upload(b"first").json()["generation"])
    assert upload(b"no", ifGenerationMatch=first + 1).status_code == 412
    second = int(upload(b"second", ifGenerationMatch=first).json()["generation"])
    assert second > first
    assert download().content == b"second"
    assert download(generation=first).status_code == 404


def test_of_many_uploads_at_once_one_creates_the_object(gcs, upload):
    def slow_clock() -> datetime:
        time.sleep(0.02)  # asked between the condition and the deed
        return datetime.now(UTC)

    gcs.objects._clock = slow_clock
    with ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda n: upload(b"%d" % n, ifGenerationMatch=0), range(16)))
    assert sorted(reply.status_code for reply in replies) == [200] + [412] * 15


def test_a_condition_that_is_not_known_here_is_never_ignored(upload):
    assert upload(ifGenerationNotMatch=0).status_code == 501


def test_hashes_are_computed_and_those_declared_are_checked(upload, download):
    right = base64.b64encode(google_crc32c.value(b"bytes").to_bytes(4)).decode()
    for declared in ("crc32c=AAAAAA==", f"crc32c={right},md5=1B2M2Y8AsgTpgAmY7PhCfg=="):
        assert upload(headers={"X-Goog-Hash": declared}).status_code == 400
    assert download().status_code == 404
    stored = upload(headers={"X-Goog-Hash": f"crc32c={right}"}).json()
    assert stored["crc32c"] == right
    assert (
        base64.b64decode(stored["md5Hash"]).hex()
        == hashlib.md5(b"bytes", usedforsecurity=False).hexdigest()
    )


def test_a_bucket_that_is_not_there_is_404(upload):
    assert upload(bucket="nowhere").status_code == 404


def test_googles_client_describes_changes_lists_and_removes(client):
    bucket = client.bucket("private")
    blob = bucket.blob(NAME)
    blob.metadata = {"job": "job_1"}
    blob.upload_from_string(b"bytes", content_type="video/mp4", if_generation_match=0)
    bucket.blob("other").upload_from_string(b"")
    blob.cache_control = "no-store"
    blob.metadata = {"job": "job_1", "more": "é"}
    blob.patch(if_metageneration_match=1)
    (listed,) = client.list_blobs("private", prefix="videos/")
    assert (listed.name, listed.size, listed.metageneration) == (NAME, 5, 2)
    assert listed.cache_control == "no-store"
    assert listed.metadata == {"job": "job_1", "more": "é"}
    assert listed.download_as_bytes(start=1, end=3) == b"yte"
    blob.delete()
    assert bucket.get_blob(NAME) is None


def test_a_list_comes_in_pages_in_the_order_of_names(client):
    bucket = client.bucket("private")
    for name in ("b/2", "b/10", "a", "b/1", "c"):
        bucket.blob(name).upload_from_string(b"bytes")
    listed = client.list_blobs("private", prefix="b/", page_size=2)
    pages = [[blob.name for blob in page] for page in listed.pages]
    assert pages == [["b/1", "b/10"], ["b/2"]]
    assert [blob.name for blob in client.list_blobs("private", page_size=5)] == sorted(
        ["a", "b/1", "b/10", "b/2", "c"]
    )


def test_objects_survive_a_restart(tmp_path):
    for generations in range(2):
        with gcs_server(data=tmp_path, buckets=["private"]) as server:
            assert len(server.objects.list("private", prefix="").objects) == generations
            httpx.post(
                f"{server.url}/upload/storage/v1/b/private/o?uploadType=media&name=a",
                content=b"bytes",
            ).raise_for_status()
            there = server.objects.get("private", "a")
            assert server.objects.content(there).read_bytes() == b"bytes"
    assert len(list((tmp_path / "contents").iterdir())) == 1  # what was replaced is gone


# --- resumable uploads


@pytest.fixture
def session(http) -> str:
    start = http.post(
        "/upload/storage/v1/b/private/o",
        params={"uploadType": "resumable", "ifGenerationMatch": 0},
        json={"name": NAME, "contentType": "video/mp4"},
    )
    return start.headers["Location"]


def test_a_resumable_upload_says_how_far_it_is_and_ends_with_the_object(http, session, download):
    def put(content_range: str, content: bytes = b"") -> httpx.Response:
        return http.put(session, content=content, headers={"Content-Range": content_range})

    content = os.urandom(2 * CHUNK + 10)
    size = len(content)
    nothing_yet = put("bytes */*")
    assert (nothing_yet.status_code, "Range" in nothing_yet.headers) == (308, False)
    first = put(f"bytes 0-{CHUNK - 1}/{size}", content[:CHUNK])
    assert (first.status_code, first.headers["Range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert put(f"bytes */{size}").headers["Range"] == f"bytes=0-{CHUNK - 1}"

    gap = put(f"bytes {2 * CHUNK}-{size - 1}/{size}", content[2 * CHUNK :])
    assert gap.status_code == 503
    assert "exceeds already uploaded size" in gap.text
    assert put(f"bytes {CHUNK}-{size - 1}/{size}", b"less").status_code == 400
    assert download().status_code == 404

    # Sent again from the start: what is there already is not taken twice.
    whole = put(f"bytes 0-{size - 1}/{size}", content)
    assert whole.status_code == 200
    assert put(f"bytes */{size}").json() == whole.json()
    assert download().content == content


def test_of_a_broken_chunk_whole_256_kib_are_kept(gcs, http, session):
    content = os.urandom(4 * CHUNK)
    gcs.faults.cut_upload(after_bytes=2 * CHUNK + 100)
    whole = {"Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"}
    with pytest.raises(httpx.TransportError):
        http.put(session, content=content, headers=whole)
    status = http.put(session, headers={"Content-Range": "bytes */*"})
    assert status.headers["Range"] == f"bytes=0-{2 * CHUNK - 1}"


def test_a_resumable_upload_is_refused_at_its_end_if_another_was_faster(
    http, session, upload, download
):
    upload(b"faster")
    for _ in range(2):
        late = http.put(session, content=b"late", headers={"Content-Range": "bytes 0-3/4"})
        assert late.status_code == 412
    assert download().content == b"faster"


def test_an_upload_nobody_started_or_that_was_given_up_is_404(http, session):
    assert http.delete(session).status_code == 499
    for url in (session, "/upload/storage/v1/b/private/o?upload_id=guessed"):
        assert http.put(url, headers={"Content-Range": "bytes */*"}).status_code == 404


# --- signatures


@pytest.fixture
def sign(client) -> Callable[..., str]:
    """A link as Google's own client makes it."""

    def make(**how) -> str:
        settings = {"version": "v4", "expiration": timedelta(minutes=5), **how}
        return client.bucket("private").blob(NAME).generate_signed_url(**settings)

    return make


def code(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.text.split("<Code>")[1].split("</Code>")[0]


def test_a_link_made_by_googles_client_is_accepted(sign, upload):
    upload(b"bytes")
    plain = httpx.get(sign())
    assert (plain.status_code, plain.content) == (200, b"bytes")
    named = httpx.get(sign(response_disposition='attachment; filename="a.mp4"'))
    assert named.headers["Content-Disposition"] == 'attachment; filename="a.mp4"'


def test_a_link_is_for_one_method_one_object_and_the_headers_it_names(sign, upload):
    upload(b"bytes")
    for wrong in (
        httpx.head(sign()),
        httpx.put(sign(), content=b"mine"),
        httpx.get(sign().replace("clip", "clop")),
        httpx.get(sign(), headers={"Host": "storage.googleapis.com"}),
        httpx.put(sign(method="PUT", content_type="video/mp4"), headers={"Content-Type": "a/b"}),
    ):
        assert wrong.status_code == 403
    unsaid = httpx.get(sign(headers={"x-goog-meta-a": "b"}))
    assert code(unsaid) == (400, "MalformedSecurityHeader")
    assert httpx.get(
        sign(headers={"x-goog-meta-a": "b"}), headers={"x-goog-meta-a": "b"}
    ).is_success
    assert httpx.head(sign(method="HEAD")).headers["Content-Length"] == "5"


def test_a_signed_put_stores_an_object(sign, download):
    reply = httpx.put(
        sign(method="PUT", content_type="video/mp4"),
        content=b"bytes",
        headers={"Content-Type": "video/mp4"},
    )
    assert reply.is_success
    assert download().headers["Content-Type"] == "video/mp4"


def test_a_link_has_its_time(sign, gcs, upload):
    upload(b"bytes")
    url, now = sign(), datetime.now(UTC)
    gcs.clock.stop_at(now + timedelta(minutes=4, seconds=50))
    assert httpx.get(url).is_success
    gcs.clock.stop_at(now + timedelta(minutes=5))
    assert code(httpx.get(url)) == (400, "ExpiredToken")
    gcs.clock.stop_at(now - timedelta(hours=1))
    assert code(httpx.get(url)) == (403, "RequestTimeTooSkewed")
    too_long = url.replace("Expires=300", f"Expires={8 * 24 * 3600}")
    gcs.clock.stop_at(now)
    assert code(httpx.get(too_long)) == (400, "InvalidArgument")


def test_a_key_that_nobody_registered_signs_nothing(sign, gcs, upload, tmp_path):
    upload(b"bytes")
    with gcs_server() as stranger:
        stranger.write_key_file(tmp_path / "key.json")
    blob = storage.Client(credentials=credentials(tmp_path)).bucket("private").blob(NAME)
    forged = blob.generate_signed_url(
        version="v4", expiration=60, api_access_endpoint=gcs.url, credentials=credentials(tmp_path)
    )
    assert RUNS_AS.replace("@", "%40") in forged
    assert code(httpx.get(forged)) == (403, "SignatureDoesNotMatch")


def test_without_a_signature_only_public_buckets_are_read(http, upload):
    for bucket in ("private", "public"):
        upload(b"0123456789", bucket=bucket)
    path = NAME.replace(" ", "%20")
    assert code(http.get(f"/private/{path}")) == (403, "AccessDenied")
    assert code(http.put(f"/public/{path}", content=b"mine")) == (403, "AccessDenied")
    assert http.get(f"/public/{path}").content == b"0123456789"
    head = http.head(f"/public/{path}")
    assert (head.headers["Content-Length"], head.content) == ("10", b"")
    assert http.get(f"/public/{path}", headers={"Range": "bytes=8-"}).content == b"89"
    assert http.get(f"/public/{path}", headers={"Range": "bytes=10-"}).status_code == 416


# --- identity


def test_iam_signs_for_an_account_only_when_the_account_asks(http, gcs):
    def sign_as(email: str, authorization: dict[str, str]) -> int:
        return http.post(
            f"/v1/projects/-/serviceAccounts/{email}:signBlob",
            json={"payload": base64.b64encode(b"text").decode()},
            headers=authorization,
        ).status_code

    gcs.accounts.register("other@demo.iam.gserviceaccount.com")
    flavor = {"Metadata-Flavor": "Google"}
    account = "/computeMetadata/v1/instance/service-accounts/default"
    assert http.get(f"{account}/token").status_code == 403
    token = http.get(f"{account}/token", headers=flavor).json()["access_token"]
    authorization = {"Authorization": f"Bearer {token}"}
    assert sign_as(RUNS_AS, authorization) == 200
    assert sign_as("other@demo.iam.gserviceaccount.com", authorization) == 403
    assert sign_as(RUNS_AS, {}) == 401


def test_a_token_from_elsewhere_is_refused(http, upload):
    assert upload(headers={"Authorization": "Bearer ya29.elsewhere"}).status_code == 401
    assertion = ".".join(
        base64.urlsafe_b64encode(part).decode()
        for part in (b"{}", json.dumps({"iss": RUNS_AS}).encode(), b"forged")
    )
    assert http.post("/token", data={"assertion": assertion}).status_code == 400


# --- as a process


def test_it_runs_as_a_process_until_it_is_told_to_end(tmp_path):
    key_file, data = tmp_path / "key.json", tmp_path / "data"
    command = [sys.executable, "-m", "services.emulators.gcs", "--port=0", f"--data={data}"]
    process = subprocess.Popen(
        [*command, "--bucket=private", f"--key-file={key_file}"], stdout=subprocess.PIPE, text=True
    )
    try:
        variable, _, url = process.stdout.readline().strip().partition("=")
        assert variable == "STORAGE_EMULATOR_HOST"
        assert httpx.get(f"{url}/storage/v1/b/private/o").json()["items"] == []
        assert json.loads(key_file.read_text())["token_uri"] == f"{url}/token"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()
