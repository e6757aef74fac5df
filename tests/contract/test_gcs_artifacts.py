"""Artifacts in Cloud Storage: what the port's contract cannot see."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from google.cloud.storage._signing import generate_signed_url_v4
from google.oauth2.service_account import Credentials
from structlog.testing import capture_logs

from services.emulators.gcs import RUNS_AS
from shared.adapters.gcp.gcs_artifacts import GcsArtifacts
from shared.adapters.gcp.gcs_links import KeyFileSigner, object_path, signed_url
from shared.errors import (
    ArtifactExpired,
    ArtifactStoreUnavailable,
    ConfigurationError,
    LinkTampered,
)

KEY = "videos/2026-01/job_1/final_video.mp4"
MP4 = "video/mp4"
SMALL, LARGE = 200_000, 20 * 1024 * 1024  # one request; three chunks of a resumable upload

PUT_WHEN_TOLD = """
from pathlib import Path
sys.stdin.readline()
print("sha256", opened.put(sys.argv[1], Path(sys.argv[2]), content_type="video/mp4").sha256)
"""

PRINT_LINK_AND_PUT = """
from datetime import datetime
from pathlib import Path
now = datetime.fromisoformat(sys.argv[3])
# First, as in an API that stores nothing: whose credentials these are is not known yet.
print(opened.link(sys.argv[1], expires_in_seconds=60, now=now).url)
opened.put(sys.argv[1], Path(sys.argv[2]), content_type="video/mp4")
"""


@pytest.fixture
def open_artifact_store(open_gcs_artifacts) -> Callable[..., GcsArtifacts]:
    return open_gcs_artifacts


@pytest.fixture
def opened(gcs, open_gcs_artifacts) -> Iterator[Callable[..., GcsArtifacts]]:
    """Opens stores with other settings, and closes them."""
    stores = []

    def open_store(**settings) -> GcsArtifacts:
        stores.append(open_gcs_artifacts(**{"iam_url": gcs.url, **settings}))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_clip(tmp_path / "clip.mp4", SMALL)


def make_clip(file: Path, size_bytes: int, *, seed: bytes = b"a clip") -> Path:
    pattern = hashlib.shake_256(seed).digest(99_991)  # a prime: no two chunks are alike
    file.write_bytes((pattern * (size_bytes // len(pattern) + 1))[:size_bytes])
    return file


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- put


def test_an_object_says_what_it_is_and_whose(artifact_store, gcs, clip):
    artifact_store.put(KEY, clip, content_type=MP4)
    attributes = gcs.objects.get("bucket", KEY).attributes
    assert attributes.content_type == MP4
    assert attributes.cache_control == "private, max-age=3600, immutable"
    assert attributes.content_disposition == "inline; filename*=UTF-8''job_1-final_video.mp4"
    assert attributes.custom == {"sha256": sha256(clip.read_bytes()), "job": "job_1"}


@pytest.mark.parametrize("size_bytes", [0, SMALL, LARGE])
def test_every_size_arrives_as_it_left(artifact_store, stored_bytes, tmp_path, size_bytes):
    clip = make_clip(tmp_path / "clip.mp4", size_bytes)
    stored = artifact_store.put(KEY, clip, content_type=MP4)
    assert stored.size_bytes == size_bytes
    assert stored.sha256 == sha256(clip.read_bytes()) == sha256(stored_bytes(KEY))


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    artifact_store, gcs, stored_bytes, tmp_path, size_bytes
):
    clip = make_clip(tmp_path / "clip.mp4", size_bytes)
    gcs.faults.fail(3, path="/upload/")
    artifact_store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending == 0
    assert stored_bytes(KEY) == clip.read_bytes()


@pytest.mark.parametrize(
    "broken", [(SMALL, 100_000), (LARGE, 3_000_000), (LARGE, 1_000, 5_000_000, 8_000_000)]
)
def test_an_upload_cut_in_the_middle_goes_on(artifact_store, gcs, stored_bytes, tmp_path, broken):
    size_bytes, *cuts_after_bytes = broken
    clip = make_clip(tmp_path / "clip.mp4", size_bytes)
    for after_bytes in cuts_after_bytes:
        gcs.faults.cut_upload(after_bytes=after_bytes)
    artifact_store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending == 0
    assert stored_bytes(KEY) == clip.read_bytes()


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_an_upload_that_arrived_without_an_answer_is_no_error(
    artifact_store, gcs, stored_bytes, tmp_path, size_bytes
):
    clip = make_clip(tmp_path / "clip.mp4", size_bytes)
    gcs.faults.cut_answer()
    stored = artifact_store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending == 0
    assert stored.sha256 == sha256(clip.read_bytes())
    assert stored.size_bytes == size_bytes
    assert stored_bytes(KEY) == clip.read_bytes()


def test_looking_at_what_is_there_and_removing_it_are_tried_again_too(
    artifact_store, gcs, follow, clip, noon
):
    artifact_store.put(KEY, clip, content_type=MP4)
    gcs.faults.fail(2, path="/storage/")
    artifact_store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending == 0
    gcs.faults.fail(2, path="/storage/")
    artifact_store.delete(KEY)
    with pytest.raises(ArtifactExpired):
        follow(artifact_store.link(KEY, expires_in_seconds=60, now=noon).url, noon)


def test_a_folder_of_several_pages_is_deleted_though_the_server_is_busy(artifact_store, gcs, clip):
    keys = [f"videos/2026-01/job_1/{number}.mp4" for number in range(7)]
    for key in (*keys, "videos/2026-01/job_10/0.mp4"):
        artifact_store.put(key, clip, content_type=MP4)
    gcs.objects.longest_page = 3
    gcs.faults.fail(2, path="/storage/")
    artifact_store.delete_all("videos/2026-01/job_1")
    assert gcs.faults.pending == 0
    left = [there.name for there in gcs.objects.list("bucket", prefix="videos/").objects]
    assert left == ["videos/2026-01/job_10/0.mp4"]


def test_our_own_object_and_another_attempts_are_told_apart(artifact_store, gcs, clip, tmp_path):
    gcs.faults.cut_answer()
    with capture_logs() as logs:
        artifact_store.put(KEY, clip, content_type=MP4)
    assert [log["same_content"] for log in logs] == [True]

    another = make_clip(tmp_path / "another.mp4", SMALL, seed=b"another")
    with capture_logs() as logs:
        stored = artifact_store.put(KEY, another, content_type=MP4)
    assert [log["same_content"] for log in logs] == [False]
    assert stored.sha256 == sha256(clip.read_bytes())


def test_an_object_removed_before_it_was_looked_at_is_put_again(
    artifact_store, gcs, stored_bytes, clip
):
    gcs.faults.fail(path="/upload/", status="412 Precondition Failed")
    artifact_store.put(KEY, clip, content_type=MP4)
    assert stored_bytes(KEY) == clip.read_bytes()


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone"])
def test_an_upload_the_server_has_lost_is_started_again(
    artifact_store, gcs, stored_bytes, tmp_path, status
):
    clip = make_clip(tmp_path / "clip.mp4", LARGE)
    gcs.faults.fail(path="/upload/", status=status)
    artifact_store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending == 0
    assert stored_bytes(KEY) == clip.read_bytes()


def test_of_two_processes_at_once_one_wins_and_both_are_told_of_it(
    open_gcs_artifacts, start_process, stored_bytes, tmp_path
):
    clips = [make_clip(tmp_path / seed, LARGE, seed=seed.encode()) for seed in ("one", "two")]
    processes = [start_process(PUT_WHEN_TOLD, open_gcs_artifacts, KEY, str(clip)) for clip in clips]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    told = {process.communicate()[0].split("sha256 ")[1].strip() for process in processes}
    assert told == {sha256(stored_bytes(KEY))}
    assert told < {sha256(clip.read_bytes()) for clip in clips}


def test_an_object_put_there_by_hand_is_described_as_it_is(artifact_store, gcs, clip):
    httpx.post(
        f"{gcs.url}/upload/storage/v1/b/bucket/o",
        params={"uploadType": "media", "name": KEY},
        content=b"by hand",
    ).raise_for_status()
    stored = artifact_store.put(KEY, clip, content_type=MP4)
    assert (stored.size_bytes, stored.sha256) == (7, sha256(b"by hand"))


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_a_file_that_changes_while_it_is_stored_is_refused(
    artifact_store, stored_bytes, size_bytes
):
    class Changing(io.BytesIO):
        def seek(self, *where: int) -> int:
            self.getbuffer()[size_bytes // 2] ^= 1
            return super().seek(*where)

    class ChangingFile:
        def open(self, _mode: str) -> Changing:
            return Changing(bytes(size_bytes))

    with pytest.raises(ArtifactStoreUnavailable):
        artifact_store.put(KEY, ChangingFile(), content_type=MP4)
    with pytest.raises(ArtifactExpired):
        stored_bytes(KEY)


@pytest.mark.parametrize("key", ["a//b", "./a", "a/./b", "a/", "a\nb", "a\rb", "a\\b", "é" * 513])
def test_a_key_that_is_another_place_elsewhere_is_refused(artifact_store, clip, key):
    with pytest.raises(ValueError, match="key"):
        artifact_store.put(key, clip, content_type=MP4)


# --- when Cloud Storage does not answer


@pytest.mark.parametrize("size_bytes", [SMALL, LARGE])
def test_retries_end(opened, gcs, tmp_path, size_bytes):
    clip = make_clip(tmp_path / "clip.mp4", size_bytes)
    store = opened(deadline_seconds=1)
    gcs.faults.fail(1000, path="/upload/")
    started = time.monotonic()
    with pytest.raises(ArtifactStoreUnavailable, match="HTTP 503"):
        store.put(KEY, clip, content_type=MP4)
    assert gcs.faults.pending < 1000 - 2  # tried again
    assert time.monotonic() - started < 5


def test_waiting_for_an_answer_ends(opened, gcs, clip):
    store = opened(deadline_seconds=0.5)
    for _ in range(10):
        gcs.faults.delay(1.0, path="/upload/")
    started = time.monotonic()
    with pytest.raises(ArtifactStoreUnavailable, match="ReadTimeout"):
        store.put(KEY, clip, content_type=MP4)
    assert time.monotonic() - started < 5


def test_every_call_says_that_the_store_is_unavailable_and_not_where_it_is(opened, gcs, clip, noon):
    store = opened(signing="iam", deadline_seconds=0.3)
    store.put("another.mp4", clip, content_type=MP4)  # signed in by then
    store.link("another.mp4", expires_in_seconds=60, now=noon)
    for call in (
        lambda: store.put(KEY, clip, content_type=MP4),
        lambda: store.link(KEY, expires_in_seconds=60, now=noon),
        lambda: store.delete(KEY),
        lambda: store.delete_all("videos/2026-01/job_1"),
    ):
        for status in ("503 Service Unavailable", "403 Forbidden", "400 Bad Request"):
            gcs.faults.fail(100, status=status)
            with pytest.raises(ArtifactStoreUnavailable) as raised:
                call()
            gcs.faults._coming.clear()
            for secret in ("bucket", "job_1", "127.0.0.1", "http", "RetryError"):
                assert secret not in raised.value.message


def test_a_bucket_that_is_not_there_is_no_file_stored(opened, clip):
    with pytest.raises(ArtifactStoreUnavailable):
        opened(bucket="another").put(KEY, clip, content_type=MP4)


def test_a_server_that_is_not_there_is_unavailable(opened, clip, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(ArtifactStoreUnavailable):
        opened(deadline_seconds=0.5).put(KEY, clip, content_type=MP4)


# --- links


@pytest.fixture(params=["key_file", "iam"])
def signing_store(request, opened) -> GcsArtifacts:
    return opened(signing=request.param)


def test_a_link_opens_its_file_until_it_expires_and_no_other(
    signing_store, follow, clip, tmp_path, noon
):
    other = make_clip(tmp_path / "other.mp4", SMALL, seed=b"other")
    signing_store.put(KEY, clip, content_type=MP4)
    signing_store.put(KEY.replace("job_1", "job_2"), other, content_type=MP4)
    link = signing_store.link(KEY, expires_in_seconds=60, now=noon)
    assert link.expires_at == noon + timedelta(seconds=60)
    assert follow(link.url, noon + timedelta(seconds=59)) == clip.read_bytes()
    with pytest.raises(ArtifactExpired):
        follow(link.url, link.expires_at)
    for changed in (
        link.url.replace("job_1", "job_2"),
        link.url.replace("Expires=60", "Expires=600"),
        f"{link.url}&response-content-type=text/html",
    ):
        with pytest.raises(LinkTampered):
            follow(changed, noon)


def test_a_link_serves_ranges_and_says_what_the_file_is(signing_store, gcs, clip, noon):
    signing_store.put(KEY, clip, content_type=MP4)
    gcs.clock.stop_at(noon)
    url = signing_store.link(KEY, expires_in_seconds=60, now=noon).url
    part = httpx.get(url, headers={"Range": "bytes=1000-1999"})
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{SMALL}"
    assert part.content == clip.read_bytes()[1000:2000]
    assert part.headers["Content-Type"] == MP4
    assert part.headers["Content-Disposition"].startswith("inline;")


def test_a_link_is_signed_anew_at_each_call(signing_store, noon):
    links = [
        signing_store.link(KEY, expires_in_seconds=60, now=noon + timedelta(seconds=late)).url
        for late in range(3)
    ]
    assert len(set(links)) == 3


@pytest.mark.parametrize(("signing", "hours"), [("key_file", 7 * 24), ("iam", 12)])
def test_a_link_lives_no_longer_than_its_signature(opened, follow, noon, signing, hours):
    store = opened(signing=signing)
    link = store.link(KEY, expires_in_seconds=30 * 24 * 3600, now=noon)
    assert link.expires_at == noon + timedelta(hours=hours)
    with pytest.raises(ArtifactExpired):
        follow(link.url, link.expires_at)


def test_a_link_is_the_one_that_googles_own_client_makes(gcs, tmp_path, noon):
    gcs.write_key_file(tmp_path / "another.json")
    credentials = Credentials.from_service_account_file(tmp_path / "another.json")
    path = object_path("bucket", "mål & mer/100%/~été?*.mp4")
    endpoint = "https://storage.googleapis.com"
    assert signed_url(
        endpoint, path, seconds=60, now=noon, signer=KeyFileSigner(credentials)
    ) == generate_signed_url_v4(
        credentials, path, 60, endpoint, _request_timestamp=noon.strftime("%Y%m%dT%H%M%SZ")
    )


@pytest.fixture
def on_cloud_run(gcs, open_gcs_artifacts, monkeypatch, tmp_path) -> Callable[[], GcsArtifacts]:
    """Opens a store in a process that has no key and was not told who it is."""
    host = urlsplit(gcs.url).netloc
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    monkeypatch.setenv("GCE_METADATA_IP", host)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))  # nobody is logged in
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    return partial(open_gcs_artifacts, credentials_file=None, signing="iam", iam_url=gcs.url)


def test_on_cloud_run_files_are_stored_and_links_signed_without_a_key(
    on_cloud_run, start_process, follow, clip, noon
):
    arguments = (KEY, str(clip), noon.isoformat())
    process = start_process(PRINT_LINK_AND_PUT, on_cloud_run, *arguments)
    url = process.communicate()[0].strip()
    assert f"X-Goog-Credential={RUNS_AS.replace('@', '%40')}" in url
    assert follow(url, noon) == clip.read_bytes()


def test_iam_is_asked_again_when_it_is_busy(opened, gcs, follow, clip, noon):
    store = opened(signing="iam")
    store.put(KEY, clip, content_type=MP4)
    gcs.faults.fail(2, path="/v1/projects/")
    url = store.link(KEY, expires_in_seconds=60, now=noon).url
    assert gcs.faults.pending == 0
    assert follow(url, noon) == clip.read_bytes()


def test_a_public_bucket_has_links_that_never_expire(opened, gcs, clip, noon):
    store = opened(bucket="public", signing="public")
    store.put(KEY, clip, content_type=MP4)
    link = store.link(KEY, expires_in_seconds=0, now=noon)
    assert link.expires_at is None
    assert link.url == f"{gcs.url}/public/{KEY}"
    reply = httpx.get(link.url)
    assert reply.content == clip.read_bytes()
    assert reply.headers["Cache-Control"] == "public, max-age=3600, immutable"


# --- credentials


def test_a_key_file_that_is_not_named_missing_or_broken_is_the_operators_to_mend(opened, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    for file in (None, tmp_path / "missing.json", broken):
        with pytest.raises(ConfigurationError):
            opened(credentials_file=file)
