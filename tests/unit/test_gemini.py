"""Gemini over the wire: plans in the shape that was asked for, and pictures."""

import json
import logging
import subprocess
import sys
from io import BytesIO

import pytest
from PIL import Image

from services.emulators.vertex import API_KEY, PROJECT, vertex_server
from services.emulators.vertex_script import said
from shared.adapters.vertex.gemini import Gemini, PlannedSegment
from shared.adapters.vertex.still import Still
from shared.errors import BackendUnavailable, InvalidRequest, ModelUnavailable, PromptRefused
from tests.unit.vertex_under_test import (
    PROMPT,
    Told,
    assert_discreet,
    connected,
    hear_everything,
)

CALL = "generateContent"
FILTERED = [
    "SAFETY",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "SPII",
]


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def gemini(server, told):
    with connected(server, told) as vertex:
        yield Gemini(vertex)


def plan(gemini, *, segments=2, keyframes=True):
    return gemini.plan(PROMPT, segments=segments, seconds_each=4, keyframes=keyframes)


def answer(*segments) -> str:
    return json.dumps({"segments": list(segments)})


def png(colour="red") -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


either_call = pytest.mark.parametrize(
    "ask", [plan, lambda gemini: gemini.draw(PROMPT)], ids=["plan", "draw"]
)

# --- plans


@pytest.mark.parametrize("segments", [1, 2, 15])
def test_a_plan_has_the_segments_that_were_asked_for_each_with_a_keyframe(gemini, segments):
    planned = plan(gemini, segments=segments)
    assert len({segment.prompt for segment in planned}) == segments
    assert len({segment.keyframe_description for segment in planned}) == segments


def test_without_keyframes_none_is_described_or_asked_for(server, gemini):
    assert {segment.keyframe_description for segment in plan(gemini, keyframes=False)} == {None}
    (asked,) = server.script.asked
    assert "keyframe" not in json.dumps(asked.body)


def test_the_planner_is_told_what_to_plan_apart_from_what_the_user_wrote(server, gemini):
    plan(gemini, segments=7)
    (asked,) = server.script.asked
    assert asked.path == "/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent"
    (content,) = asked.body["contents"]
    assert content["parts"] == [{"text": PROMPT}]
    instructions = asked.body["systemInstruction"]["parts"][0]["text"]
    assert "7 segments of 4 seconds" in instructions
    assert PROMPT not in instructions
    config = asked.body["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseSchema"]["required"] == ["segments"]


def test_a_plan_is_taken_as_the_model_words_it(server, gemini):
    server.script.next_text(
        answer({"prompt": " one ", "keyframe": "k1"}, {"prompt": "two", "keyframe": "k2", "x": 1})
    )
    assert plan(gemini) == (PlannedSegment("one", "k1"), PlannedSegment("two", "k2"))


def test_what_a_model_thinks_aloud_is_no_part_of_its_plan(server, gemini):
    planned = answer({"prompt": "one"}, {"prompt": "two"})
    server.script.say(CALL, said({"text": "Let me see.", "thought": True}, {"text": planned}))
    assert [segment.prompt for segment in plan(gemini, keyframes=False)] == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    [
        "Here is your plan!",
        "[]",
        "{}",
        '{"segments": [',
        answer(),
        answer({"prompt": "one", "keyframe": "k"}),
        answer(*[{"prompt": "one", "keyframe": "k"}] * 3),
        answer({"prompt": "one", "keyframe": "k"}, {"prompt": " ", "keyframe": "k"}),
        answer({"prompt": "one", "keyframe": "k"}, {"prompt": "two"}),
        answer({"prompt": "one", "keyframe": "k"}, {"prompt": 2, "keyframe": "k"}),
        "",
    ],
)
def test_a_plan_that_cannot_be_used_is_asked_for_once_more(server, gemini, told, text):
    server.script.next_text(text)
    assert len(plan(gemini)) == 2
    assert told.slept_seconds == [1]
    server.script.say(CALL, said({"text": text}), count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        plan(gemini)
    assert unavailable.value.retry
    assert_discreet(unavailable.value)
    assert server.script.pending == 0


# --- pictures


@pytest.mark.parametrize("painter", ["gemini-2.5-flash-image", "gemini-2.5-flash-image-preview"])
def test_a_picture_is_drawn_in_the_shape_that_was_asked_for(server, painter):
    with connected(server) as vertex:
        drawn = Gemini(vertex, painter=painter).draw("a zebra", aspect_ratio="9:16", size="1K")
    assert drawn.content_type == "image/png"
    with Image.open(BytesIO(drawn.content)) as image:
        image.load()
        assert image.width < image.height
    (asked,) = server.script.asked
    assert asked.model == painter
    assert asked.body["generationConfig"]["responseModalities"] == ["IMAGE", "TEXT"]
    assert asked.body["generationConfig"]["imageConfig"] == {"aspectRatio": "9:16"}


def test_another_description_or_reference_gives_another_picture(gemini):
    drawn = {
        gemini.draw("a zebra").content,
        gemini.draw("a horse").content,
        gemini.draw("a zebra", references=(png("red"),)).content,
        gemini.draw("a zebra", references=(png("blue"), png("red"))).content,
    }
    assert len(drawn) == 4
    assert gemini.draw("a zebra").content in drawn


def test_references_go_before_the_description_with_their_type(server, gemini):
    gemini.draw("a zebra", references=(png("red"), b"\xff\xd8\xff\xe0 a JPEG"))
    (content,) = server.script.asked[0].body["contents"]
    first, second, last = content["parts"]
    assert "image/png" in first["inlineData"].values()
    assert "image/jpeg" in second["inlineData"].values()
    assert last == {"text": "a zebra"}


def test_a_larger_picture_is_asked_of_models_that_can_draw_it(server, gemini, told):
    with pytest.raises(ModelUnavailable, match="another image_generation_model"):
        gemini.draw("a zebra", size="2K")
    assert server.script.asked == []
    server.script.say(CALL, said({"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}))
    with connected(server, told) as vertex:
        Gemini(vertex, painter="gemini-3-pro-image").draw("a zebra", size="2K")
    (asked,) = server.script.asked
    assert asked.body["generationConfig"]["imageConfig"]["imageSize"] == "2K"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"aspect_ratio": "2:1"}, "aspect_ratio"),
        ({"size": "1024x1024"}, "size"),
        ({"references": (b"GIF89a",)}, "image"),
    ],
)
def test_what_gemini_cannot_draw_is_refused_before_anything_is_sent(server, gemini, wrong, field):
    with pytest.raises(InvalidRequest) as refused:
        gemini.draw("a zebra", **wrong)
    assert refused.value.field == field
    assert server.script.asked == []


def test_a_jpeg_is_a_picture_too_whatever_the_model_calls_it(server, gemini):
    part = {"inlineData": {"mimeType": "image/webp", "data": "/9j/4A=="}}
    server.script.say(CALL, said({"text": "Here."}, part))
    assert gemini.draw("a zebra") == Still(b"\xff\xd8\xff\xe0", "image/jpeg")


@pytest.mark.parametrize(
    "body",
    [
        said({"text": "I would rather not."}),
        said({"inlineData": {"mimeType": "image/png", "data": "R0lGODlh"}}),
        said({"inlineData": {"mimeType": "image/png", "data": ""}}),
        said(),
        {"candidates": [{"finishReason": "NO_IMAGE"}]},
        {"candidates": [{"finishReason": "IMAGE_OTHER"}]},
        {"candidates": []},
        {},
        [],
        "no",
    ],
)
def test_an_answer_without_a_picture_is_asked_for_once_more(server, gemini, told, body):
    server.script.say(CALL, body)
    assert gemini.draw("a zebra").content
    assert told.slept_seconds == [1]
    server.script.say(CALL, body, count=2)
    with pytest.raises(BackendUnavailable) as unavailable:
        gemini.draw(PROMPT)
    assert_discreet(unavailable.value)
    assert server.script.pending == 0


# --- both


@either_call
@pytest.mark.parametrize("reason", FILTERED)
def test_what_the_filter_stops_is_the_requesters(server, gemini, told, ask, reason):
    server.script.finish(reason)
    with pytest.raises(PromptRefused) as refused:
        ask(gemini)
    assert "filter" in str(refused.value)
    assert_discreet(refused.value)
    assert told.slept_seconds == []


@either_call
@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "PROHIBITED_CONTENT", "IMAGE_SAFETY"])
def test_a_prompt_that_is_blocked_is_the_requesters(server, gemini, ask, reason):
    server.script.block(reason)
    with pytest.raises(PromptRefused) as refused:
        ask(gemini)
    assert_discreet(refused.value)


@either_call
def test_an_error_means_the_same_here_as_for_veo(server, gemini, told, ask):
    server.script.fail(CALL, 429, retry_after="9")
    server.script.hang_up(CALL)
    server.script.fail(CALL, 503)
    assert ask(gemini)
    assert told.slept_seconds == [9, 2, 4]
    server.script.fail(CALL, 500, count=4, message=PROMPT)
    with pytest.raises(BackendUnavailable) as unavailable:
        ask(gemini)
    assert_discreet(unavailable.value)
    server.script.fail(CALL, 403, message=PROMPT)
    with pytest.raises(ModelUnavailable) as refused:
        ask(gemini)
    assert_discreet(refused.value)
    server.script.fail(CALL, 400, message=f"The prompt {PROMPT} was blocked.")
    with pytest.raises(PromptRefused):
        ask(gemini)


def test_a_model_that_is_not_there_names_the_key_to_mend(server):
    with connected(server) as vertex:
        gemini = Gemini(vertex, planner="gemini-9", painter="gemini-9-image")
        with pytest.raises(
            ModelUnavailable, match=r"gemini-9 .*check planner and vertex\.location"
        ):
            plan(gemini)
        with pytest.raises(
            ModelUnavailable, match=r"gemini-9-image .*check image_generation_model and "
        ):
            gemini.draw("a zebra")


def test_a_service_account_asks_for_plans_too(server, tmp_path):
    server.write_key_file(tmp_path / "key.json")
    access = {"api_key": None, "project": PROJECT, "credentials_file": tmp_path / "key.json"}
    with connected(server, **access) as vertex:
        assert len(plan(Gemini(vertex))) == 2


def test_no_prompt_and_no_key_reaches_a_log(server, gemini, told, caplog):
    hear_everything(caplog)
    server.script.fail(CALL, 503, message=PROMPT)
    server.script.next_text(PROMPT)
    plan(gemini)
    gemini.draw(PROMPT)
    assert caplog.records
    for line in (*map(logging.Formatter().format, caplog.records), *told.lines):
        assert PROMPT not in line
        assert API_KEY not in line
        assert "AFC" not in line  # functions that we do not offer


def test_what_is_shown_of_a_plan_is_safe_to_log():
    assert "secret" not in repr(PlannedSegment("secret", "secret"))


def test_nobody_waits_for_googles_client_before_it_is_needed():
    code = (
        "import sys, services.gpu_worker.backends.veo, shared.adapters.vertex.gemini; "
        "sys.exit('google.genai' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_who_draws_for_the_api_has_neither_numpy_nor_pillow_to_load():
    code = (
        "import sys, shared.adapters.vertex.connection, shared.adapters.vertex.gemini; "
        "sys.exit(bool({'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
