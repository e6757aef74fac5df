import itertools
from dataclasses import replace

import numpy as np
import pytest

from services.gpu_worker.backends import find_backend
from services.gpu_worker.pipeline.plan import make_plan
from services.gpu_worker.pipeline.run import denoise
from services.gpu_worker.pipeline.segments import denoise_segments
from services.gpu_worker.pipeline.watcher import RenderCanceled
from services.gpu_worker.protocol import Render
from shared.errors import ModelUnavailable

PROMPT = "an elephant with a secret"


class FakeModel:
    """Renders grey frames that get brighter, and tells the watcher what a real model would."""

    device = "cpu"

    def __init__(self):
        self.segments = []
        self.decoded = []
        self.steps_begun = 0

    def denoise(self, segment, watcher):
        self.segments.append(segment)
        watcher.text_encoded()
        for step in range(1, segment.steps + 1):
            self.steps_begun += 1
            watcher.step_done(step, segment.steps)
        return FakeLatents(segment, self)


class FakeLatents:
    def __init__(self, segment, model):
        self._segment = segment
        self._model = model

    def decode(self, watcher):
        self._model.decoded.append(self._segment)
        for fraction in (0.5, 1.0):
            watcher.decoded(fraction)
        segment = self._segment
        shades = np.linspace(0, 255, segment.frames).astype(np.uint8)
        shape = (segment.frames, segment.size.height, segment.size.width, 3)
        return np.broadcast_to(shades[:, None, None, None], shape).copy()


class Notebook:
    """A watcher that writes everything down, and wants no more at a given moment."""

    def __init__(self, *, cancel_at=None):
        self.reports = []
        self.lines = []
        self._cancel_at = cancel_at

    def progress(self, phase, fraction, *, step=None, steps=None):
        self.reports.append((phase, fraction, step, steps))

    def log(self, text):
        self.lines.append(text)

    def cancel_requested(self):
        return self._cancel_at is not None and self.reports[-1:] == [self._cancel_at]


def run(command, model, watcher, **options):
    """Both halves of a render, one after the other."""
    return denoise(command, model, watcher, **options).finish()


@pytest.fixture
def command(tmp_path):
    return Render(
        job_id="job-1",
        prompt=PROMPT,
        negative_prompt="no tigers",
        seed=3,
        frames=9,
        fps=16,
        native_width=32,
        native_height=16,
        output_width=64,
        output_height=32,
        steps=3,
        guidance_scale=5.0,
        flow_shift=3.0,
        work_dir=tmp_path,
    )


def test_a_command_becomes_three_files_in_the_work_directory(command, tmp_path):
    rendered = run(command, FakeModel(), Notebook())

    assert {file.kind: file.path.name for file in rendered.files} == {
        "video": "final_video.mp4",
        "poster": "poster.jpg",
        "spritesheet": "spritesheet.jpg",
    }
    assert {file.path for file in rendered.files} == set(tmp_path.iterdir())
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


def test_steps_are_counted_and_decoding_is_the_last_stretch(command):
    notebook = Notebook()

    run(command, FakeModel(), notebook)

    generation = [report for report in notebook.reports if report[0] == "generation"]
    assert generation[1:6] == [
        ("generation", 1 / 4, 1, 3),
        ("generation", 2 / 4, 2, 3),
        ("generation", 3 / 4, 3, 3),
        ("generation", 3.5 / 4, 3, 3),
        ("generation", 1.0, 3, 3),
    ]


def test_each_phase_is_timed(command):
    ticks = itertools.count()

    rendered = run(command, FakeModel(), Notebook(), clock=lambda: float(next(ticks)))

    assert list(rendered.phase_seconds) == ["plan", "keyframes", "generation", "stitch"]
    assert rendered.phase_seconds["plan"] == 1.0
    # The clock was looked at in between: in the first half once for the segment and once a step, in
    # the second one when the decoding began and when it ended.
    assert rendered.phase_seconds["generation"] == 5.0 + 3.0


def test_the_wait_between_the_halves_is_in_no_phases_time(command):
    now = 0.0
    notebook = Notebook()

    clip = denoise(command, FakeModel(), notebook, clock=lambda: now)
    now = 100.0  # another clip was being finished
    rendered = clip.finish()

    assert set(rendered.phase_seconds.values()) == {0.0}
    assert "frames decoded (0.00 s)" in notebook.lines


def test_the_first_half_takes_every_step_and_decodes_and_writes_nothing(command, tmp_path):
    model, notebook = FakeModel(), Notebook()

    denoise(command, model, notebook)

    assert model.steps_begun == command.steps
    assert notebook.reports[-1] == ("generation", 3 / 4, 3, 3)
    assert not model.decoded
    assert list(tmp_path.iterdir()) == []


def test_the_second_half_asks_the_model_for_no_more_steps(command):
    model = FakeModel()
    clip = denoise(command, model, Notebook())
    steps_begun = model.steps_begun

    clip.finish()

    assert len(model.decoded) == 1
    assert model.steps_begun == steps_begun


def test_a_cancel_between_the_halves_is_heard_before_anything_is_decoded(command, tmp_path):
    model = FakeModel()
    clip = denoise(command, model, Notebook(cancel_at=("generation", 3 / 4, 3, 3)))

    with pytest.raises(RenderCanceled):
        clip.finish()

    assert not model.decoded
    assert list(tmp_path.iterdir()) == []


def test_segments_are_shown_in_their_order(command):
    segments = [replace(make_plan(command).segments[0], seed=seed) for seed in (7, 8)]
    plan = replace(make_plan(command), segments=tuple(segments))
    model = FakeModel()

    denoised = denoise_segments(plan, model, Notebook(), clock=lambda: 0.0)
    for segment in denoised:
        segment.decode()

    assert [segment.seed for segment in model.decoded] == [7, 8]


def test_the_log_tells_the_story_without_prompt_or_path(command, tmp_path):
    notebook = Notebook()

    run(command, FakeModel(), notebook, clock=lambda: 0.0)

    log = "\n".join(notebook.lines)
    assert "plan: 1 segment, 9 frames at 16 fps, 3 steps (3 guided) at 32x16, shown at 64x32" in log
    assert "keyframes: none needed" in log
    assert "step 2/3 (0.00 s)" in log
    assert "stitch: 9 frames encoded" in log
    assert not any(word in log for word in ("elephant", "tigers", str(tmp_path)))


def test_the_prompt_does_not_leak_through_a_repr(command):
    model = FakeModel()

    clip = denoise(command, model, Notebook())

    for text in (repr(model.segments), repr(clip)):
        assert "elephant" not in text
        assert "tigers" not in text


@pytest.mark.parametrize(
    "moment",
    [
        ("plan", 1.0, None, None),
        ("generation", 2 / 4, 2, 3),
        ("generation", 3.5 / 4, 3, 3),
        ("stitch", 4 / 9, None, None),
    ],
    ids=[
        "before the model",
        "between steps",
        "while decoding",
        "while encoding",
    ],
)
def test_a_cancel_is_heard_at_once_and_leaves_no_files(command, tmp_path, moment):
    notebook = Notebook(cancel_at=moment)

    with pytest.raises(RenderCanceled):
        run(command, FakeModel(), notebook)

    assert notebook.reports[-1] == moment
    assert list(tmp_path.iterdir()) == []


def test_a_cancel_while_the_prompt_is_read_is_heard_before_the_first_step(command):
    model = FakeModel()

    with pytest.raises(RenderCanceled):
        run(command, model, Notebook(cancel_at=("generation", 0.0, None, None)))

    assert len(model.segments) == 1
    assert model.steps_begun == 0


def test_a_cancel_after_the_last_frame_makes_no_pictures_any_more(command, tmp_path):
    with pytest.raises(RenderCanceled):
        run(command, FakeModel(), Notebook(cancel_at=("stitch", 1.0, None, None)))

    assert [path.name for path in tmp_path.iterdir()] == ["final_video.mp4"]


def test_a_backend_that_is_not_here_is_said_to_be_so():
    with pytest.raises(ModelUnavailable, match="veo3"):
        find_backend("veo3")
