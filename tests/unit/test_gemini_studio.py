"""Gemini as the pipeline knows it: nothing to open, nothing to close, several at once."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from services.emulators.vertex import API_KEY, vertex_server
from services.gpu_worker.backends.gemini_studio import aspect_ratio_of, painter, planner
from shared.adapters.vertex.gemini import ASPECT_RATIOS
from shared.config_sections import Vertex
from shared.errors import BackendUnavailable, ModelUnavailable
from tests.unit.vertex_under_test import PROMPT, Told, assert_discreet

CALL = "generateContent"
PLANNER, PAINTER = "gemini-2.5-flash", "gemini-2.5-flash-image"


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def section(server, tmp_path):
    (tmp_path / "api.key").write_text(API_KEY)
    return Vertex(api_key_file=tmp_path / "api.key", base_url=server.url)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def hired(section, told):
    def with_model(profession, model, **change):
        return profession(
            section.model_copy(update=change),
            model,
            sleep=told.slept_seconds.append,
            tell=told.lines.append,
        )

    return with_model


def plan(somebody):
    return somebody.plan(PROMPT, segments=2, seconds_each=4, keyframes=True)


def test_a_planner_plans_again_and_again(server, hired):
    gemini = hired(planner, PLANNER)
    for _ in range(2):
        planned = plan(gemini)
        assert len({segment.prompt for segment in planned}) == 2
        assert all(segment.keyframe_description for segment in planned)
    assert {asked.model for asked in server.script.asked} == {PLANNER}


def test_a_painter_draws_after_stills_and_files(server, hired):
    gemini = hired(painter, PAINTER)
    first = gemini.draw("a zebra", aspect_ratio="9:16", size="1K")
    with Image.open(BytesIO(first.content)) as image:
        assert image.width < image.height
    second = gemini.draw("a zebra", references=(first, first.content))
    assert second != first
    (content,) = server.script.asked[-1].body["contents"]
    assert len(content["parts"]) == 3
    assert {asked.model for asked in server.script.asked} == {PAINTER}


def test_several_pictures_are_drawn_side_by_side(hired):
    gemini = hired(painter, PAINTER)
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(gemini.draw, [f"a zebra {n}" for n in range(4)]))
    assert len({still.content for still in drawn}) == 4


@pytest.mark.parametrize("profession", [planner, painter])
def test_retries_are_those_of_the_section_and_are_told(server, hired, told, profession):
    gemini = hired(profession, PLANNER, max_retries=1)
    server.script.fail(CALL, 429, count=2, retry_after="9", message=PROMPT)
    with pytest.raises(BackendUnavailable) as unavailable:
        plan(gemini) if profession is planner else gemini.draw(PROMPT)
    assert_discreet(unavailable.value)
    assert told.slept_seconds == [9]
    assert len(told.lines) == 1
    assert PROMPT not in told.lines[0]


def test_a_wait_can_be_ended_from_outside(server, section):
    class Stopped(Exception):
        pass

    def stop(_seconds):
        raise Stopped

    server.script.fail(CALL, 503)
    with pytest.raises(Stopped):
        plan(planner(section, PLANNER, sleep=stop, tell=lambda _: None))


def test_each_asks_the_model_it_was_hired_with(hired):
    with pytest.raises(ModelUnavailable, match=r"gemini-9-words .*check planner and"):
        plan(hired(planner, "gemini-9-words"))
    with pytest.raises(
        ModelUnavailable, match=r"gemini-9-image .*check image_generation_model and"
    ):
        hired(painter, "gemini-9-image").draw("a zebra")


def test_who_asks_without_a_key_is_told_which_to_give(hired, tmp_path):
    gemini = hired(painter, PAINTER, api_key_file=tmp_path / "nowhere.key")
    with pytest.raises(ModelUnavailable, match=r"vertex\.api_key_file"):
        gemini.draw("a zebra")


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((1344, 768), "16:9"),
        ((1280, 720), "16:9"),
        ((832, 480), "16:9"),
        ((480, 832), "9:16"),
        ((512, 512), "1:1"),
        ((1024, 768), "4:3"),
        ((600, 800), "3:4"),
        ((9999, 100), "21:9"),
    ],
)
def test_a_size_has_a_shape_that_gemini_draws(size, ratio):
    assert aspect_ratio_of(*size) == ratio


def test_each_shape_is_its_own():
    sizes = [tuple(int(side) * 60 for side in ratio.split(":")) for ratio in ASPECT_RATIOS]
    assert tuple(aspect_ratio_of(*size) for size in sizes) == ASPECT_RATIOS
