"""The pictures that segments begin with: who draws them, after what, and who gets them."""

import base64
import json
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.emulators.vertex import vertex_server
from services.emulators.vertex_script import said
from services.gpu_worker.backends.backend import Abilities
from services.gpu_worker.engine.pictures import fit, picture_of, read_picture
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.catalog import Size
from shared.errors import ModelUnavailable, PromptRefused
from tests.unit import films
from tests.unit.production_under_test import (
    CountingModel,
    FakeModel,
    FilmingModel,
    Impatient,
    Notebook,
    number_of,
    ordered_long,
    run,
    staffed,
    vertex_asked_at,
    video_of,
)

CALL = "generateContent"
PAINTER = "gemini-2.5-flash-image"
NATIVE = Size(32, 16)
WITH_LAST = Abilities(first_frame=True, last_frame=True, stills=True)
WITHOUT_LAST = Abilities(first_frame=True, stills=True)


@pytest.fixture
def command(tmp_path):
    return ordered_long(tmp_path, mode="keyframe")


@pytest.fixture
def server():
    with vertex_server() as running:
        yield running


@pytest.fixture
def gemini(server, tmp_path_factory):
    section = vertex_asked_at(server, tmp_path_factory.mktemp("keys"))
    return staffed(section, painter=PAINTER)


def keyframe(folder, number):
    return folder / "keyframes" / f"{number}.png"


def asked_for(server):
    """Of each picture: what it was to show, and what it was drawn after."""
    asked = []
    for request in server.script.asked:
        *pictures, text = request.body["contents"][0]["parts"]
        after = [each["inlineData"]["data"] for each in pictures]
        # Google's client writes the alphabet for URLs.
        asked.append((text["text"], [base64.b64decode(data, altchars=b"-_") for data in after]))
    return asked


def png(pixels) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def drawn_next(server, pixels):
    data = base64.b64encode(png(pixels)).decode()
    server.script.say(CALL, said({"inlineData": {"mimeType": "image/png", "data": data}}))


def stills(model):
    return [segment for segment in model.segments if segment.frames == 1]


def clips(model):
    return [segment for segment in model.segments if segment.frames > 1]


def number_or_none(picture):
    return None if picture is None else number_of(picture)


# --- by Gemini


def test_gemini_draws_each_as_described_after_the_first_one_and_the_one_before(
    server, gemini, tmp_path
):
    story = {"segments": 4, "prompt": "A park. A dog. A cat. A fox."}
    command = ordered_long(tmp_path, mode="keyframe", **story)
    run(command, FakeModel(), Notebook(), order=gemini)
    content = {number: keyframe(tmp_path, number).read_bytes() for number in (1, 2, 3, 4)}
    assert asked_for(server) == [
        ("A park.", []),
        ("A park. A dog.", [content[1]]),
        ("A park. A cat.", [content[1], content[2]]),
        ("A park. A fox.", [content[1], content[3]]),
    ]
    assert {asked.model for asked in server.script.asked} == {PAINTER}


def test_the_references_of_the_configuration_come_before_all_others(
    server, gemini, command, tmp_path, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("references")
    references = (folder / "hero.png", folder / "place.png")
    for shade, file in enumerate(references):
        file.write_bytes(png(np.full((8, 8, 3), shade, np.uint8)))
    order = gemini.model_copy(update={"reference_images": references})
    run(command, FakeModel(), Notebook(), order=order)
    configured = [file.read_bytes() for file in references]
    first, second = (keyframe(tmp_path, number).read_bytes() for number in (1, 2))
    assert [after for _, after in asked_for(server)] == [
        configured,
        [*configured, first],
        [*configured, first, second],
    ]


def test_a_reference_that_cannot_be_read_is_the_operators(gemini, command, tmp_path):
    order = gemini.model_copy(update={"reference_images": (tmp_path / "nowhere.png",)})
    with pytest.raises(ModelUnavailable, match="reference_images") as unavailable:
        run(command, FakeModel(), Notebook(), order=order)
    assert "nowhere" not in str(unavailable.value)
    assert unavailable.value.__context__ is None


@pytest.mark.parametrize(("size", "shape"), [("1344x768", "16:9"), ("600x800", "3:4")])
def test_pictures_are_asked_for_in_the_shape_that_is_configured(
    server, gemini, command, size, shape
):
    run(command, FakeModel(), Notebook(), order=gemini.model_copy(update={"image_size": size}))
    asked = [request.body["generationConfig"]["imageConfig"] for request in server.script.asked]
    assert {it["aspectRatio"] for it in asked} == {shape}


def test_a_picture_of_another_shape_covers_the_frame_and_what_is_over_is_cut_off(
    server, gemini, command, tmp_path
):
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:15, :, 0] = pixels[-15:, :, 0] = 255
    pixels[16:-16, :, 1] = 200
    drawn_next(server, pixels)
    model = FakeModel()
    run(command, model, Notebook(), order=gemini)
    picture = read_picture(keyframe(tmp_path, 1))
    assert picture.shape == (NATIVE.height, NATIVE.width, 3)
    assert picture[..., 0].max() < 10
    assert picture[..., 1].min() > 150
    np.testing.assert_array_equal(picture, fit(picture_of(png(pixels)), NATIVE))
    np.testing.assert_array_equal(clips(model)[0].first_frame, picture)


def test_who_is_drawn_by_gemini_needs_no_model_that_draws(gemini, command, server):
    model = FakeModel(Abilities(first_frame=True))
    run(command, model, Notebook(), order=gemini)
    assert stills(model) == []
    assert len(server.script.asked) == 3


def test_pictures_that_are_there_are_not_drawn_anew(server, gemini, command, tmp_path):
    run(command, FakeModel(), Notebook(), order=gemini)
    before = keyframe(tmp_path, 2).read_bytes()
    keyframe(tmp_path, 3).unlink()
    server.script.asked.clear()
    notebook = Notebook()
    run(command, FakeModel(), notebook, order=gemini)
    ((_, after),) = asked_for(server)
    assert after == [keyframe(tmp_path, 1).read_bytes(), before]
    assert keyframe(tmp_path, 2).read_bytes() == before
    told = [line for line in notebook.lines if line.startswith("keyframe ")]
    assert told == [
        "keyframe 1/3: already there",
        "keyframe 2/3: already there",
        "keyframe 3/3: drawn",
    ]
    assert notebook.parts == ["keyframes/3.png"]


def test_a_refused_picture_is_the_requesters_and_those_before_are_kept(
    server, gemini, command, tmp_path
):
    drawn_next(server, np.zeros((9, 16, 3), np.uint8))
    server.script.finish("IMAGE_SAFETY")
    with pytest.raises(PromptRefused):
        run(command, FakeModel(), Notebook(), order=gemini)
    assert keyframe(tmp_path, 1).exists()
    assert not keyframe(tmp_path, 2).exists()


def test_a_cancel_is_heard_while_a_picture_is_waited_for(server, gemini, command):
    server.script.fail(CALL, 429, retry_after="50")
    notebook = Impatient()
    started = time.monotonic()
    with pytest.raises(RenderCanceled):
        run(command, FakeModel(), notebook, order=gemini)
    assert time.monotonic() - started < 10
    assert notebook.parts == ["plan.json"]


def test_a_cancel_between_two_pictures_is_heard_before_the_next_is_asked_for(
    server, gemini, command
):
    with pytest.raises(RenderCanceled):
        run(
            command,
            FakeModel(),
            Notebook(cancel_at=("keyframes", 1 / 3, None, None)),
            order=gemini,
        )
    assert len(server.script.asked) == 1


# --- by the video model


def test_a_model_draws_clips_of_one_frame_all_of_one_seed(command, tmp_path):
    model = CountingModel()
    run(command, model, Notebook())
    assert [(it.prompt, it.seed) for it in stills(model)] == [
        ("A park 10.", 3),
        ("A park 10. A dog 40.", 3),
        ("A park 10. A cat 70.", 3),
    ]
    assert {(it.size, it.first_frame, it.steps) for it in stills(model)} == {(NATIVE, None, 2)}
    for number, told in enumerate((10, 40, 70), start=1):
        assert number_of(read_picture(keyframe(tmp_path, number))) == told


@pytest.mark.parametrize(
    "model",
    [
        FakeModel(Abilities(first_frame=True)),
        FilmingModel(frames=9),
        FilmingModel(frames=9, stills=True),
    ],
    ids=["cannot", "elsewhere", "elsewhere, and says it can"],
)
def test_where_nobody_draws_the_operator_is_told_whom_to_name(command, model):
    with pytest.raises(ModelUnavailable, match="image_generation_model"):
        run(command, model, Notebook())
    assert clips(model) == []


@pytest.mark.parametrize(
    ("steps_begun", "decoded", "moment"),
    [
        (0, 0, lambda model: model.segments),
        (1, 0, lambda model: model.steps_begun),
        (2, 1, lambda model: model.decoded),
    ],
    ids=["while the text is read", "between steps", "while decoding"],
)
def test_a_cancel_is_heard_at_once_while_the_model_draws(command, steps_begun, decoded, moment):
    class Canceling(Notebook):
        def cancel_requested(self):
            return bool(moment(model))

    notebook, model = Canceling(), CountingModel()
    with pytest.raises(RenderCanceled):
        run(command, model, notebook)
    assert (model.steps_begun, len(model.decoded)) == (steps_begun, decoded)
    assert notebook.parts == ["plan.json"]


def test_who_waits_for_a_picture_from_elsewhere_is_heard_too(command):
    class Waiting(FilmingModel):
        def generate(self, segment, watcher):
            watcher.note("Waiting for it.")
            return super().generate(segment, watcher)

    class Canceling(Notebook):
        def cancel_requested(self):
            return "Waiting for it." in self.lines

    with pytest.raises(RenderCanceled):
        run(command, Waiting(frames=9, stills=True), Canceling())


# --- who gets them


@pytest.mark.parametrize(
    ("abilities", "last_frames", "shown"),
    [
        (
            WITH_LAST,
            [40, 70, None],
            [10, 11, 12, 13, 40, 41, 42, 43, 70, 71, 72, 73, 74],
        ),
        (
            WITHOUT_LAST,
            [None, None, None],
            [10, 11, 12, 13, 14, 40, 41, 42, 43, 44, 70, 71, 72, 73, 74],
        ),
    ],
    ids=["meets the next one", "is free to end"],
)
def test_segments_begin_with_their_keyframe_and_meet_the_next_ones_where_they_can(
    command, abilities, last_frames, shown
):
    model, notebook = CountingModel(abilities), Notebook()
    rendered = run(command, model, notebook)
    assert [number_or_none(it.first_frame) for it in clips(model)] == [10, 40, 70]
    assert [number_or_none(it.last_frame) for it in clips(model)] == last_frames
    # A keyframe that ends one segment and begins the next is shown once.
    assert films.numbers(video_of(rendered)) == shown
    assert rendered.frames == len(shown)
    assert any(f"3 segments joined, {len(shown)} frames as they are" in it for it in notebook.lines)


def test_clips_that_meet_at_a_keyframe_show_it_once(command, gemini):
    meeting = run(command, FilmingModel(frames=5, last_frame=True), Notebook(), order=gemini)
    assert meeting.frames == 4 + 3 + 3


def test_the_picture_is_drawn_as_the_planner_described_it_and_not_as_the_segment_goes_on(
    server, gemini, tmp_path
):
    planned = {"segments": [{"prompt": f"action {n}", "keyframe": f"still {n}"} for n in (1, 2, 3)]}
    server.script.next_text(json.dumps(planned))
    order = gemini.model_copy(update={"planner": "gemini-2.5-flash"})
    run(ordered_long(tmp_path, mode="keyframe"), FakeModel(), Notebook(), order=order)
    assert [text for text, _ in asked_for(server)[1:]] == ["still 1", "still 2", "still 3"]


def test_a_plan_without_descriptions_is_drawn_by_its_prompts(server, gemini, tmp_path):
    shots = [{"prompt": f"action {n}", "seed": n} for n in (1, 2, 3)]
    (tmp_path / "plan.json").write_text(json.dumps({"mode": "keyframe", "shots": shots}))
    run(ordered_long(tmp_path, mode="keyframe"), FakeModel(), Notebook(), order=gemini)
    assert [text for text, _ in asked_for(server)] == ["action 1", "action 2", "action 3"]


def test_a_clip_that_ends_on_a_keyframe_is_shown_to_its_end(command, gemini):
    """It was made longer than asked for: cut, it would never come to the keyframe."""
    # Nine of its frames are six of ours, of which the last segment shows no more than it should.
    model = FilmingModel(frames=9, last_frame=True)
    meeting = run(command, model, Notebook(), order=gemini)
    assert command.frames == 5
    assert meeting.frames == 6 + 5 + 5


def test_a_model_that_must_be_told_how_a_clip_ends_is_told_so_of_the_last_one_too(command):
    needy = Abilities(first_frame=True, last_frame=True, needs_last_frame=True, stills=True)
    model = FakeModel(needy)

    run(command, model, Notebook())

    clips_made = clips(model)
    assert len(stills(model)) == len(clips_made) + 1
    assert stills(model)[-1].prompt == clips_made[-1].prompt
    assert all(clip.last_frame is not None for clip in clips_made)


def test_the_other_modes_have_no_keyframes(tmp_path):
    model, notebook = CountingModel(), Notebook()
    run(ordered_long(tmp_path), model, notebook)
    assert stills(model) == []
    assert "keyframes: none needed" in notebook.lines
    assert not (tmp_path / "keyframes").exists()
