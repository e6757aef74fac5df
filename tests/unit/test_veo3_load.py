"""Loading veo3: what is wrong with the section ``vertex`` is known before anything is ordered."""

import json
import sys
from pathlib import Path

import google
import pytest

from services.emulators.vertex import API_KEY, PROJECT, vertex_server
from services.gpu_worker.backends import find_backend
from services.gpu_worker.backends.backend import Abilities
from services.gpu_worker.protocol import Load
from shared.catalog import find_model
from shared.config_sections import Vertex
from shared.errors import ModelUnavailable
from tests.unit.segment_watching import SEGMENT, Watching
from tests.unit.vertex_under_test import assert_discreet

FOLDER = "gs://promptreel/segments"


@pytest.fixture
def server():
    with vertex_server(polls=1) as running:
        yield running


@pytest.fixture
def section(server, tmp_path):
    (tmp_path / "api.key").write_text(API_KEY)
    return Vertex(
        api_key_file=tmp_path / "api.key",
        base_url=server.url,
        poll_seconds=0.01,
    )


@pytest.fixture
def load():
    """As the render process does, from a line of JSON."""

    def loaded(vertex: Vertex | None):
        order = Load(
            model="veo3", model_dir=Path("/nowhere"), device="auto", dtype="auto", vertex=vertex
        )
        order = Load.model_validate_json(order.encode())
        return find_backend("veo3").load(find_model("veo3"), order, warn=pytest.fail)

    return loaded


def test_a_model_is_ready_without_any_cost(server, section, load, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")  # nobody is there
    model = load(section)
    assert model.device == "vertex ai"
    assert model.abilities == Abilities(
        first_frame=True, last_frame=True, stills=False, segments_at_once=4, needs_device=False
    )
    older = load(section.model_copy(update={"veo_model": "veo-3.0-generate-001"}))
    assert not older.abilities.last_frame
    assert load(section.model_copy(update={"output_gcs_uri": FOLDER}))
    assert server.script.asked == []


def test_a_service_account_orders_too(server, load, tmp_path):
    server.write_key_file(tmp_path / "key.json")
    model = load(
        Vertex(
            project=PROJECT,
            credentials_file=tmp_path / "key.json",
            base_url=server.url,
            poll_seconds=0.01,
        )
    )
    assert model.generate(SEGMENT, Watching()).content


def test_the_key_is_the_files_without_what_an_editor_adds(server, section, load):
    section.api_key_file.write_text(f"  {API_KEY}\r\n\n")
    load(section).generate(SEGMENT, Watching())
    assert {asked.headers["X-Goog-Api-Key"] for asked in server.script.asked} == {API_KEY}


def test_a_section_that_is_not_there_is_asked_for(load):
    with pytest.raises(ModelUnavailable, match="section vertex"):
        load(None)


def test_a_section_that_names_nobody_is_refused(load):
    with pytest.raises(ModelUnavailable, match=r"vertex\.project, or vertex\.api_key_file"):
        load(Vertex())


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"two words", b"\xff\xfe", "schlüssel".encode()]
)
def test_an_api_key_that_cannot_be_read_is_the_operators(load, section, content):
    section.api_key_file.unlink()
    if content is not None:
        section.api_key_file.write_bytes(content)
    with pytest.raises(ModelUnavailable, match=r"vertex\.api_key_file") as unavailable:
        load(section)
    assert_discreet(unavailable.value, "two words", str(section.api_key_file))


def test_a_service_accounts_key_that_cannot_be_read_is_the_operators(load, tmp_path):
    (tmp_path / "key.json").write_text(json.dumps({"private_key": "secret"}))
    with pytest.raises(ModelUnavailable, match=r"vertex\.credentials_file") as unavailable:
        load(Vertex(project=PROJECT, credentials_file=tmp_path / "key.json"))
    assert_discreet(unavailable.value, "secret", str(tmp_path))


@pytest.mark.parametrize("missing", ["google.genai", "services.gpu_worker.backends.clip_storage"])
def test_what_is_not_installed_is_asked_for(section, load, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delattr(google, "genai", raising=False)
    with pytest.raises(ModelUnavailable, match=r"install promptreel\[remote\]"):
        load(section.model_copy(update={"output_gcs_uri": FOLDER}))


def test_who_may_not_reach_the_bucket_is_known_before_a_clip_is_ordered(
    section, load, monkeypatch, tmp_path
):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere.json"))
    with pytest.raises(ModelUnavailable, match=r"vertex\.output_gcs_uri"):
        load(section.model_copy(update={"output_gcs_uri": FOLDER}))
