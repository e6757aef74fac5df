"""What each segment shows: planned once, by rule or by Gemini, and found again."""

import json
import time

import pytest

from services.emulators.vertex import vertex_server
from services.gpu_worker.pipeline.plan import Plan
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.errors import BackendUnavailable, ModelUnavailable, PromptRefused
from tests.unit.production_under_test import (
    NOBODY,
    PROMPT,
    STORY,
    FakeModel,
    Impatient,
    Notebook,
    ordered,
    ordered_long,
    run,
    staffed,
    vertex_asked_at,
)

CALL = "generateContent"
PLANNER = "gemini-2.5-flash"
BY_RULE = ["A park 10.", "A park 10. A dog 40.", "A park 10. A cat 70."]


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def gemini(server, tmp_path_factory):
    section = vertex_asked_at(server, tmp_path_factory.mktemp("keys"))
    return staffed(section, planner=PLANNER)


@pytest.fixture
def command(tmp_path):
    return ordered_long(tmp_path)


def shown(command, order=NOBODY, watcher=None):
    """The prompts that the model was asked for."""
    model = FakeModel()
    run(command, model, watcher or Notebook(), order=order)
    return [segment.prompt for segment in model.segments if segment.frames > 1]


def written(folder):
    return json.loads((folder / "plan.json").read_text())


def answer(*prompts, **more):
    return json.dumps({"segments": [{"prompt": prompt} | more for prompt in prompts]})


# --- by rule


def test_a_plan_is_written_down_as_it_is_shown(command, tmp_path):
    notebook = Notebook()
    assert shown(command, watcher=notebook) == BY_RULE
    assert written(tmp_path) == {
        "mode": "chaining",
        "shots": [
            {"prompt": prompt, "seed": seed, "keyframe": None}
            for prompt, seed in zip(BY_RULE, (3, 4, 5), strict=True)
        ],
    }
    assert notebook.parts[0] == "plan.json"


def test_the_keyframes_are_described_in_the_plan_of_keyframe_mode_alone(tmp_path):
    shown(ordered_long(tmp_path, mode="keyframe"))
    assert [shot["keyframe"] for shot in written(tmp_path)["shots"]] == BY_RULE


def test_a_single_clip_is_of_the_prompt_as_it_was_said(tmp_path):
    assert shown(ordered(tmp_path, prompt=STORY)) == [STORY]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({}, "3 segments of 5 frames at 16 fps, 2 steps (2 guided), 32x16, shown at 64x32"),
        ({"segments": 1}, "1 segment of 5 frames"),
        ({"segments": 2}, "2 segments of 5 frames"),
        ({"guided_steps": 1}, "2 steps (1 guided)"),
        ({"guidance_scale": 1.0}, "2 steps (0 guided)"),
        ({"steps": 0}, "5 frames at 16 fps, 32x16"),
    ],
)
def test_the_plan_is_told_in_a_line(tmp_path, said, line):
    notebook = Notebook()
    shown(ordered_long(tmp_path, **said), watcher=notebook)
    (told,) = [it for it in notebook.lines if it.startswith("plan: ") and "done" not in it]
    assert line in told


# --- by Gemini


def test_gemini_plans_every_segment_and_is_told_how_long_each_is(server, command, gemini):
    server.script.next_text(answer("one", "two", "three"))
    assert shown(command, gemini) == ["one", "two", "three"]
    (asked,) = server.script.asked
    assert asked.model == PLANNER
    assert asked.body["contents"][0]["parts"] == [{"text": STORY}]
    instructions = asked.body["systemInstruction"]["parts"][0]["text"]
    assert "3 segments of 0.3125 seconds" in instructions
    assert "still picture" not in instructions


def test_gemini_describes_the_keyframes_where_there_are_to_be_any(server, tmp_path, gemini):
    server.script.next_text(answer("one", "two", "three", keyframe="a still"))
    shown(ordered_long(tmp_path, mode="keyframe"), gemini)
    assert "still picture" in server.script.asked[0].body["systemInstruction"]["parts"][0]["text"]
    assert [shot["keyframe"] for shot in written(tmp_path)["shots"]] == ["a still"] * 3


def test_the_keyframe_of_a_single_segment_is_described_by_gemini_too(server, tmp_path, gemini):
    server.script.next_text(answer("one", keyframe="a still"))
    assert shown(ordered_long(tmp_path, mode="keyframe", segments=1), gemini) == ["one"]
    assert [shot["keyframe"] for shot in written(tmp_path)["shots"]] == ["a still"]


def test_for_a_single_clip_nobody_is_asked(server, tmp_path, gemini):
    assert shown(ordered(tmp_path), gemini) == [PROMPT]
    assert server.script.asked == []


def test_a_refused_prompt_is_the_requesters_and_leaves_no_plan(server, command, gemini, tmp_path):
    server.script.block()
    with pytest.raises(PromptRefused):
        shown(command, gemini)
    assert not (tmp_path / "plan.json").exists()


def test_gemini_that_is_away_can_be_asked_by_a_later_attempt(server, command, gemini):
    server.script.fail(CALL, 503)
    without_patience = gemini.vertex.model_copy(update={"max_retries": 0})
    with pytest.raises(BackendUnavailable) as unavailable:
        shown(command, gemini.model_copy(update={"vertex": without_patience}))
    assert unavailable.value.retry
    assert len(shown(command, gemini)) == 3


def test_a_cancel_is_heard_while_gemini_is_waited_for(server, command, gemini):
    server.script.fail(CALL, 429, retry_after="50")
    notebook, model = Impatient(), FakeModel()
    started = time.monotonic()
    with pytest.raises(RenderCanceled):
        run(command, model, notebook, order=gemini)
    assert time.monotonic() - started < 10
    assert notebook.lines[-1].endswith("Asking again in 50 s.")
    assert model.segments == []


def test_a_planner_without_a_way_to_ask_it_is_the_operators(command):
    with pytest.raises(ModelUnavailable, match="section vertex"):
        shown(command, staffed(None, planner=PLANNER))


# --- found again


@pytest.mark.parametrize("mode", ["chaining", "keyframe"])
def test_a_plan_is_found_again_and_gemini_is_not_asked_what_it_would_say_now(
    server, tmp_path, gemini, mode
):
    command = ordered_long(tmp_path, mode=mode)
    server.script.next_text(answer("one", "two", "three", keyframe="a still"))
    shown(command, gemini)
    before = written(tmp_path)
    for file in tmp_path.glob("segments/*"):
        file.unlink()
    server.script.next_text(answer("other", "things", "now", keyframe="another still"))
    notebook = Notebook()
    assert shown(command, gemini, notebook) == ["one", "two", "three"]
    assert len(server.script.asked) == 1
    assert written(tmp_path) == before
    assert "plan: already there" in notebook.lines
    assert "plan.json" not in notebook.parts


SHOTS = [{"prompt": "foreign", "seed": 9}] * 3


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b'{"mode": "chaining", "sho',
        b"\xff\xfe",
        b"[]",
        json.dumps({"mode": "chaining"}).encode(),
        json.dumps({"mode": "dreaming", "shots": SHOTS}).encode(),
        json.dumps({"mode": "chaining", "shots": SHOTS, "by": "somebody"}).encode(),
        json.dumps({"mode": "chaining", "shots": [SHOTS[0] | {"by": "me"}] * 3}).encode(),
        json.dumps({"mode": "keyframe", "shots": SHOTS}).encode(),
        json.dumps({"mode": "chaining", "shots": SHOTS[:2]}).encode(),
    ],
    ids=[
        "empty",
        "half",
        "no text",
        "list",
        "no shots",
        "mode",
        "more",
        "more of one",
        "other mode",
        "fewer",
    ],
)
def test_a_plan_that_is_broken_or_of_another_video_is_made_anew(command, tmp_path, foreign):
    (tmp_path / "plan.json").write_bytes(foreign)
    notebook = Notebook()
    assert shown(command, watcher=notebook) == BY_RULE
    assert [shot["prompt"] for shot in written(tmp_path)["shots"]] == BY_RULE
    assert "plan: already there" not in notebook.lines


def test_a_plan_that_fits_is_followed_to_the_letter(command, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps({"mode": "chaining", "shots": SHOTS}))
    model = FakeModel()
    run(command, model, Notebook())
    assert [(it.prompt, it.seed) for it in model.segments] == [("foreign", 9)] * 3


# --- secrets


@pytest.mark.parametrize("mode", ["chaining", "keyframe"])
def test_what_is_shown_is_in_no_log_and_no_repr(server, tmp_path, gemini, mode):
    notebook = Notebook()
    server.script.fail(CALL, 503, message="a zebra")
    server.script.next_text(answer("a zebra", "a zebra", "a zebra", keyframe="the zebra"))
    shown(ordered_long(tmp_path, mode=mode), gemini, notebook)
    plan = Plan.model_validate_json((tmp_path / "plan.json").read_bytes())
    assert "zebra" in plan.shots[0].prompt
    for text in (repr(plan), str(plan), *notebook.lines):
        assert not any(word in text for word in ("zebra", "park", str(tmp_path))), text
