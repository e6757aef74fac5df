"""Artifacts as files: what the port's contract cannot see."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets, id_of
from shared.errors import LinkTampered

KEY = "videos/2026-01/job_1/final_video.mp4"
ROOT = Path(__file__).parents[2]
COPY = """
import sys
from pathlib import Path
from shared.adapters.local.disk_artifacts import DiskArtifacts
from shared.adapters.local.signing_keys import SigningSecrets
store = DiskArtifacts(Path(sys.argv[1]), bucket="bucket", signing=lambda: SigningSecrets(b"k" * 32))
store.put("videos/slow.mp4", Path(sys.argv[2]), content_type="video/mp4")
"""


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def clip(tmp_path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"a clip")
    return file


def open_store(root: Path, *, secret: bytes = b"k" * 32) -> DiskArtifacts:
    return DiskArtifacts(root, bucket="bucket", signing=lambda: SigningSecrets(secret))


def opened(store: DiskArtifacts, query: str, *, method: str = "GET", **changes: str) -> Path:
    """What a link's query opens, at the beginning of time."""
    fields = {"key_id": "", **dict(parse_qsl(query, keep_blank_values=True)), **changes}
    return store.open_link(KEY, method=method, now=_at(0), **fields)


def test_a_file_lies_under_the_name_its_uri_says(root, clip):
    stored = open_store(root).put(KEY, clip, content_type="video/mp4")
    assert stored.uri == f"local://bucket/{KEY}"
    assert (root / "bucket" / KEY).read_bytes() == b"a clip"
    assert list((root / ".partial").iterdir()) == []


def test_deleting_tidies_the_folders_it_emptied_and_never_the_bucket(root, clip):
    store = open_store(root)
    for key in (KEY, KEY.replace("job_1", "job_2"), "top.mp4"):
        store.put(key, clip, content_type="video/mp4")
    store.delete(KEY)
    assert not (root / "bucket/videos/2026-01/job_1").exists()
    assert (root / "bucket/videos/2026-01/job_2").exists()
    store.delete(KEY.replace("job_1", "job_2"))
    store.delete("top.mp4")
    assert list((root / "bucket").iterdir()) == []


def test_deleting_a_folder_tidies_those_it_emptied_and_never_the_bucket(root, clip):
    store = open_store(root)
    for key in (KEY, KEY.replace("final_video", "parts/1"), KEY.replace("job_1", "job_2")):
        store.put(key, clip, content_type="video/mp4")
    store.delete_all("videos/2026-01/job_1")
    assert not (root / "bucket/videos/2026-01/job_1").exists()
    assert (root / "bucket/videos/2026-01/job_2").exists()
    store.delete_all("videos/2026-01/job_2")
    assert list((root / "bucket").iterdir()) == []
    store.delete_all("videos/2026-01/job_2")
    assert (root / "bucket").exists()


def test_what_a_killed_copy_left_is_removed_at_the_next_start_and_a_living_one_is_not(root):
    open_store(root)
    pipe = root / "pipe"
    os.mkfifo(pipe)
    copying = subprocess.Popen([sys.executable, "-c", COPY, root, pipe], cwd=ROOT)
    with pipe.open("wb") as source:  # opens when the copy has
        source.write(b"half a clip")
        source.flush()
        open_store(root)
        (living,) = (root / ".partial").iterdir()
        copying.kill()
        copying.wait()
    assert living.exists()
    open_store(root)
    assert list((root / ".partial").iterdir()) == []


def test_the_file_and_every_new_folder_above_it_are_flushed_to_disk(root, clip, monkeypatch):
    store = open_store(root)
    flushed, flush = set(), os.fsync

    def record(descriptor: int) -> None:
        flushed.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    store.put(KEY, clip, content_type="video/mp4")
    assert {"bucket", "videos", "2026-01", "job_1"} < flushed
    assert len(flushed) == 5


def link_to(store: DiskArtifacts) -> str:
    """Its query."""
    return store.link(KEY, expires_in_seconds=60, now=_at(0)).url.partition("?")[2]


def test_a_link_signed_by_another_installation_is_refused(root, clip, tmp_path):
    store = open_store(root)
    store.put(KEY, clip, content_type="video/mp4")
    assert opened(store, link_to(store)).read_bytes() == b"a clip"
    forged = link_to(open_store(tmp_path / "elsewhere", secret=b"x" * 32))
    for changes in ({}, {"key_id": ""}, {"key_id": id_of(b"k" * 32)}):
        with pytest.raises(LinkTampered):
            opened(store, forged, **changes)


def test_a_link_is_for_fetching_and_for_nothing_else(root, clip):
    store = open_store(root)
    store.put(KEY, clip, content_type="video/mp4")
    assert opened(store, link_to(store), method="HEAD")
    for method in ("POST", "PUT", "DELETE", "PATCH", "get", ""):
        with pytest.raises(LinkTampered):
            opened(store, link_to(store), method=method)


@pytest.mark.parametrize("key_id", ["00000000", "ü", "k" * 100])
def test_a_link_that_names_a_secret_that_is_not_there_is_refused(root, clip, key_id):
    store = open_store(root)
    store.put(KEY, clip, content_type="video/mp4")
    with pytest.raises(LinkTampered):
        opened(store, link_to(store), key_id=key_id)


@pytest.mark.parametrize("expires", ["", "-1", "1e9", "soon", "9" * 13, "²"])
def test_an_expiry_that_is_no_moment_is_refused(root, expires):
    with pytest.raises(LinkTampered):
        opened(open_store(root), f"expires=1&signature={'0' * 64}", expires=expires)


def test_a_signature_in_letters_no_signature_has_is_refused(root):
    for signature in ("ü" * 64, "\ud800", ""):
        with pytest.raises(LinkTampered):
            opened(open_store(root), "expires=1", signature=signature)


def _at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
