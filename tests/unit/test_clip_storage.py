"""Clips in a bucket, read by Google's own client: whole or not at all, and whose fault it is."""

import json

import pytest

from services.emulators.gcs import gcs_server
from services.gpu_worker.backends.clip_storage import ClipStorage
from shared.adapters.vertex.retries import Patience, RetryPolicy
from shared.config_sections import Vertex
from shared.errors import BackendUnavailable, ModelUnavailable
from tests.unit.buckets import put_clip
from tests.unit.vertex_under_test import Told, assert_discreet

CLIP = b"\0\0\0\x20ftypisom and what a clip has besides"
NAME = "segments/1/sample_0.mp4"
URI = f"gs://promptreel/{NAME}"
DOWNLOAD = "/download/storage/v1/b/promptreel"


@pytest.fixture
def gcs(monkeypatch):
    with gcs_server(buckets=["promptreel"]) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        put_clip(server, URI, CLIP)
        yield server


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def read(told):
    return lambda uri=URI, **section: read_by(told, uri, **section)


def read_by(told, uri, **section) -> bytes:
    patience = Patience(
        retries=RetryPolicy(max_retries=3),
        sleep=told.slept_seconds.append,
        tell=told.lines.append,
        dice=lambda: 1.0,
    )
    with ClipStorage(Vertex(**{"request_seconds": 5} | section)) as storage:
        return storage.read(uri, patience)


def test_a_clip_is_read_and_stays_where_it_is(gcs, read):
    assert read() == CLIP
    assert gcs.objects.get("promptreel", NAME).size_bytes == len(CLIP)


def test_a_service_account_reads_with_a_token_of_its_own(gcs, read, tmp_path):
    gcs.write_key_file(tmp_path / "key.json")
    assert read(project="demo-promptreel", credentials_file=tmp_path / "key.json") == CLIP
    with gcs_server() as other:
        other.write_key_file(tmp_path / "key.json")
        # Another Google's account: its token is none here.
        with pytest.raises(ModelUnavailable, match=r"401.*vertex\.credentials_file") as refused:
            read(credentials_file=tmp_path / "key.json")
    assert_discreet(refused.value, "promptreel/", str(tmp_path))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_passes_is_waited_out_longer_each_time(gcs, read, told, status):
    gcs.faults.fail(3, path=DOWNLOAD, status=f"{status} Not Now")
    assert read() == CLIP
    assert told.slept_seconds == [1, 2, 4]
    assert told.lines[0] == f"Cloud Storage failed ({status}). Asking again in 1 s."


def test_after_the_last_retry_somebody_else_must_wait(gcs, read, told):
    gcs.faults.fail(4, path=DOWNLOAD)
    with pytest.raises(BackendUnavailable) as unavailable:
        read()
    assert_discreet(unavailable.value, URI, NAME)
    assert told.slept_seconds == [1, 2, 4]
    assert gcs.faults.pending == 0


def test_a_server_that_is_too_slow_is_tried_again(gcs, read, told):
    gcs.faults.delay(0.6, path=DOWNLOAD)
    assert read(request_seconds=0.3) == CLIP
    assert told.slept_seconds == [1]


def test_a_server_that_is_not_there_is_nobodys(read, told, monkeypatch):
    with gcs_server() as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    with pytest.raises(BackendUnavailable) as unavailable:
        read()
    assert_discreet(unavailable.value, server.url, NAME)
    assert told.slept_seconds == [1, 2, 4]


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_the_operators(gcs, read, told, status):
    gcs.faults.fail(path=DOWNLOAD, status=f"{status} No")
    with pytest.raises(ModelUnavailable, match=r"storage\.objectViewer") as refused:
        read()
    assert "vertex.output_gcs_uri" in str(refused.value)
    assert_discreet(refused.value, NAME)
    assert told.slept_seconds == []


@pytest.mark.parametrize("uri", [f"{URI}.other", f"gs://elsewhere/{NAME}"])
def test_a_clip_that_is_not_there_is_the_operators(gcs, read, told, uri):
    with pytest.raises(ModelUnavailable, match=r"404.*vertex\.output_gcs_uri") as missing:
        read(uri)
    assert_discreet(missing.value, uri)
    assert told.slept_seconds == []


@pytest.mark.parametrize("content", [b"", b"<html>not a clip</html>", CLIP[4:]])
def test_what_is_no_clip_is_read_once_more(gcs, read, told, content):
    put_clip(gcs, URI, content)
    with pytest.raises(BackendUnavailable) as unavailable:
        read()
    assert_discreet(unavailable.value, NAME)
    assert told.slept_seconds == [1]


def test_a_clip_that_changed_on_its_way_is_read_once_more(gcs, read, told):
    there = gcs.objects.content(gcs.objects.get("promptreel", NAME))
    there.write_bytes(CLIP[::-1])  # its checksum is still the old one's
    with pytest.raises(BackendUnavailable, match="DataCorruption") as unavailable:
        read()
    assert_discreet(unavailable.value, NAME)
    assert told.slept_seconds == [1]


def test_an_address_that_names_no_object_is_never_asked_for(gcs, read):
    with pytest.raises(BackendUnavailable, match="ValueError"):
        read("gs://promptreel")


def test_a_wait_can_be_ended_from_outside(gcs):
    class Stopped(Exception):
        pass

    def stop(_seconds):
        raise Stopped

    gcs.faults.fail(path=DOWNLOAD)
    patience = Patience(retries=RetryPolicy(), sleep=stop, tell=lambda _: None)
    with ClipStorage(Vertex()) as storage, pytest.raises(Stopped):
        storage.read(URI, patience)


def test_without_credentials_nobody_connects(monkeypatch, tmp_path):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    with pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file") as unavailable:
        ClipStorage(Vertex())
    assert_discreet(unavailable.value, str(tmp_path))
    (tmp_path / "other.json").write_text(json.dumps({"type": "service_account"}))
    with pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file"):
        ClipStorage(Vertex(credentials_file=tmp_path / "other.json"))
