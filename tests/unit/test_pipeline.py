import itertools

import pytest

from services.gpu_worker.backends import find_backend
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.errors import ModelUnavailable
from tests.unit.production_under_test import (
    PROMPT,
    FakeModel,
    Notebook,
    first_half,
    ordered,
    run,
)


@pytest.fixture
def command(tmp_path):
    return ordered(tmp_path)


def files_in(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def worked_with(folder):
    """The parts, of which the files are made."""
    return {folder / "plan.json", folder / "segments" / "1.mp4"}


def test_a_command_becomes_three_files_in_the_work_directory(command, tmp_path):
    rendered = run(command, FakeModel(), Notebook())

    assert {file.kind: file.path.name for file in rendered.files} == {
        "video": "final_video.mp4",
        "poster": "poster.jpg",
        "spritesheet": "spritesheet.jpg",
    }
    assert {file.path for file in rendered.files} == files_in(tmp_path) - worked_with(tmp_path)
    assert (rendered.job_id, rendered.frames, rendered.fps) == ("job-1", 9, 16)
    video = rendered.files[0]
    assert (video.content_type, video.width, video.height) == ("video/mp4", 64, 32)


def test_the_model_gets_what_was_ordered(command):
    model = FakeModel()

    run(command, model, Notebook())

    (segment,) = model.segments
    assert (segment.prompt, segment.negative_prompt) == (PROMPT, "no tigers")
    assert (segment.seed, segment.frames, segment.steps) == (3, 9, 3)
    assert (segment.size.width, segment.size.height) == (32, 16)
    assert (segment.guidance_scale, segment.flow_shift) == (5.0, 3.0)


def test_the_model_gets_the_preset_s_sampler_and_decoder(command):
    model = FakeModel()
    preset = {"scheduler": "dmd", "timesteps": (9, 5), "guided_steps": 0, "decoder": "tiny"}

    run(command.model_copy(update=preset), model, Notebook())

    (segment,) = model.segments
    assert {name: getattr(segment, name) for name in preset} == preset


def test_every_phase_is_walked_from_0_to_1_and_never_back(command):
    notebook = Notebook()

    run(command, FakeModel(), notebook)

    phases = [phase for phase, _ in itertools.groupby(notebook.reports, key=lambda it: it[0])]
    assert phases == ["plan", "keyframes", "generation", "stitch"]
    for phase in phases:
        fractions = [report[1] for report in notebook.reports if report[0] == phase]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_steps_are_counted_and_decoding_and_encoding_are_the_last_stretch(command):
    notebook = Notebook()

    run(command, FakeModel(), notebook)

    generation = [report for report in notebook.reports if report[0] == "generation"]
    assert generation[1:7] == [
        ("generation", 1 / 5, 1, 3),
        ("generation", 2 / 5, 2, 3),
        ("generation", 3 / 5, 3, 3),
        ("generation", 3.5 / 5, 3, 3),
        ("generation", 4 / 5, 3, 3),
        ("generation", (4 + 1 / 9) / 5, 3, 3),
    ]


def test_each_phase_is_timed(command):
    ticks = itertools.count()

    rendered = run(command, FakeModel(), Notebook(), clock=lambda: float(next(ticks)))

    assert list(rendered.phase_seconds) == ["plan", "keyframes", "generation", "stitch"]
    assert rendered.phase_seconds["plan"] == 1.0
    # The clock was looked at in between: in the first half once for the segment and once a step, in
    # the second one when the decoding began, when it ended, and when all was encoded.
    assert rendered.phase_seconds["generation"] == 5.0 + 4.0


def test_the_wait_between_the_halves_is_in_no_phases_time(command):
    now = 0.0
    notebook = Notebook()

    clip = first_half(command, FakeModel(), notebook, clock=lambda: now)
    now = 100.0  # another clip was being finished
    rendered = clip.finish()

    assert set(rendered.phase_seconds.values()) == {0.0}
    assert "frames decoded (0.00 s)" in notebook.lines


def test_the_first_half_takes_every_step_and_decodes_and_writes_nothing(command, tmp_path):
    model, notebook = FakeModel(), Notebook()

    first_half(command, model, notebook)

    assert model.steps_begun == command.steps
    assert notebook.reports[-1] == ("generation", 3 / 5, 3, 3)
    assert not model.decoded
    assert files_in(tmp_path) <= worked_with(tmp_path)


def test_the_second_half_asks_the_model_for_no_more_steps(command):
    model = FakeModel()
    clip = first_half(command, model, Notebook())
    steps_begun = model.steps_begun

    clip.finish()

    assert len(model.decoded) == 1
    assert model.steps_begun == steps_begun


def test_a_cancel_between_the_halves_is_heard_before_anything_is_decoded(command, tmp_path):
    model = FakeModel()
    clip = first_half(command, model, Notebook(cancel_at=("generation", 3 / 5, 3, 3)))

    with pytest.raises(RenderCanceled):
        clip.finish()

    assert not model.decoded
    assert files_in(tmp_path) <= worked_with(tmp_path)


def test_the_log_tells_the_story_without_prompt_or_path(command, tmp_path):
    notebook = Notebook()

    run(command, FakeModel(), notebook, clock=lambda: 0.0)

    log = "\n".join(notebook.lines)
    assert "plan: 1 segment of 9 frames at 16 fps, 3 steps (3 guided), 32x16, shown at 64x32" in log
    assert "keyframes: none needed" in log
    assert "step 2/3 (0.00 s)" in log
    assert "9 frames encoded (0.00 s)" in log
    assert "stitch: 9 frames as they are" in log
    for phase in ("plan", "keyframes", "generation", "stitch"):
        assert f"{phase}: done in 0.00 s" in notebook.lines
    assert not any(word in log for word in ("elephant", "tigers", str(tmp_path)))


def test_the_prompt_does_not_leak_through_a_repr(command):
    model = FakeModel()

    clip = first_half(command, model, Notebook())

    for text in (repr(model.segments), repr(clip)):
        assert "elephant" not in text
        assert "tigers" not in text


@pytest.mark.parametrize(
    "moment",
    [
        ("plan", 1.0, None, None),
        ("generation", 2 / 5, 2, 3),
        ("generation", 3.5 / 5, 3, 3),
        ("generation", (4 + 4 / 9) / 5, 3, 3),
        ("stitch", 0.6 * 4 / 9, None, None),
    ],
    ids=[
        "before the model",
        "between steps",
        "while decoding",
        "while encoding",
        "while joining",
    ],
)
def test_a_cancel_is_heard_at_once_and_leaves_nothing_half_done(command, tmp_path, moment):
    notebook = Notebook(cancel_at=moment)

    with pytest.raises(RenderCanceled):
        run(command, FakeModel(), notebook)

    assert notebook.reports[-1] == moment
    assert files_in(tmp_path) <= worked_with(tmp_path)


def test_a_cancel_while_the_prompt_is_read_is_heard_before_the_first_step(command):
    model = FakeModel()

    with pytest.raises(RenderCanceled):
        run(command, model, Notebook(cancel_at=("generation", 0.0, None, None)))

    assert len(model.segments) == 1
    assert model.steps_begun == 0


def test_a_cancel_after_the_last_frame_makes_no_pictures_any_more(command, tmp_path):
    with pytest.raises(RenderCanceled):
        run(command, FakeModel(), Notebook(cancel_at=("stitch", 0.6, None, None)))

    assert files_in(tmp_path) - worked_with(tmp_path) == {tmp_path / "final_video.mp4"}


def test_a_backend_that_is_not_here_is_said_to_be_so():
    with pytest.raises(ModelUnavailable, match="sora"):
        find_backend("sora")
