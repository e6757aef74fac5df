"""A render that is killed, at any moment, and the one that goes on from what it has left."""

import json
import shutil

import pytest
from PIL import Image

from services.gpu_worker.backends.backend import Clip
from services.gpu_worker.protocol import PartMade
from shared.errors import RenderCrashed
from tests.unit import films
from tests.unit.production_under_test import (
    CountingModel,
    FilmingModel,
    Notebook,
    ordered,
    ordered_long,
    run,
    video_of,
)

MODES = ("chaining", "keyframe")
SHORT = {"frames": 3, "steps": 1}


class Killed(Exception):
    pass


class Fragile(Notebook):
    """Dies at its ``dies_at``-th word, and looks into every part that it is told of."""

    def __init__(self, folder, dies_at=None):
        super().__init__()
        self._folder = folder
        self._dies_at = dies_at
        self.words = []

    def progress(self, phase, fraction, **steps):
        super().progress(phase, fraction, **steps)
        self._hear(f"{phase} {fraction}")

    def log(self, text):
        super().log(text)
        self._hear(text)

    def part_made(self, name):
        assert_whole(self._folder / name)
        # The supervisor reads it by the protocol.
        PartMade(job_id="job-1", name=name)
        super().part_made(name)
        self._hear(name)

    def _hear(self, word):
        self.words.append(word)
        if len(self.words) == self._dies_at:
            raise Killed


def assert_whole(file):
    match file.suffix:
        case ".json":
            assert json.loads(file.read_text())
        case ".txt":
            assert file.read_text().strip()
        case ".png":
            with Image.open(file) as image:
                image.load()
        case ".mp4":
            assert films.frames(file)


def folder_in(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    return folder


def left_by(told, tmp_path, name="another machine"):
    """A work directory with only what was told to be worth keeping."""
    source, folder = tmp_path / "work", folder_in(tmp_path, name)
    for part in told:
        (folder / part).parent.mkdir(exist_ok=True)
        shutil.copy(source / part, folder / part)
    return folder


def made(model):
    """The numbers of the segments that were made, and how many keyframes."""
    numbers = [segment.seed - 2 for segment in model.segments if segment.frames > 1]
    return numbers, len(model.segments) - len(numbers)


def missing(told, mode):
    """What nobody has made yet: numbers of segments, and how many keyframes."""
    numbers = [number for number in (1, 2, 3) if f"segments/{number}.mp4" not in told]
    drawn = sum(part.startswith("keyframes/") for part in told)
    return numbers, 3 - drawn if mode == "keyframe" else 0


@pytest.fixture(scope="module", params=MODES)
def undisturbed(request, tmp_path_factory):
    """A mode, the video as it comes to be when nothing happens, and what was told meanwhile."""
    folder = tmp_path_factory.mktemp("undisturbed")
    watcher = Fragile(folder)
    rendered = run(ordered_long(folder, mode=request.param, **SHORT), CountingModel(), watcher)
    return request.param, video_of(rendered).read_bytes(), watcher


def test_whenever_it_is_killed_the_next_one_makes_what_is_missing_and_the_same_video(
    undisturbed, tmp_path
):
    mode, video, told = undisturbed
    for moment, word in enumerate(told.words, start=1):
        folder = folder_in(tmp_path, str(moment))
        command = ordered_long(folder, mode=mode, **SHORT)
        killed, model = Fragile(folder, dies_at=moment), CountingModel()
        with pytest.raises(Killed):
            run(command, CountingModel(), killed)
        rendered = run(command, model, Notebook())
        assert video_of(rendered).read_bytes() == video, word
        assert made(model) == missing(killed.parts, mode), word
        shutil.rmtree(folder)


def test_another_machine_goes_on_from_the_parts_alone(undisturbed, tmp_path):
    mode, video, told = undisturbed
    folder_in(tmp_path, "work")
    run(ordered_long(tmp_path / "work", mode=mode, **SHORT), CountingModel(), Notebook())
    for count in range(len(told.parts) + 1):
        parts = told.parts[:count]
        folder = left_by(parts, tmp_path, str(count))
        model = CountingModel()
        rendered = run(ordered_long(folder, mode=mode, **SHORT), model, Notebook())
        assert video_of(rendered).read_bytes() == video, parts
        assert made(model) == missing(parts, mode), parts


def test_every_part_of_a_long_video_is_told_when_it_is_done(undisturbed):
    mode, _, told = undisturbed
    segments = {
        "chaining": ["1_last.png", "1.mp4", "2_last.png", "2.mp4", "3.mp4"],
        "keyframe": ["1.mp4", "2.mp4", "3.mp4"],
    }[mode]
    keyframes = [f"keyframes/{n}.png" for n in (1, 2, 3)] if mode == "keyframe" else []
    assert told.parts == ["plan.json", *keyframes, *(f"segments/{name}" for name in segments)]


def test_two_segments_are_worth_keeping_too(tmp_path):
    notebook = Notebook()
    run(ordered_long(tmp_path, segments=2, **SHORT), CountingModel(), notebook)
    assert "segments/1.mp4" in notebook.parts


def test_what_is_not_made_again_is_told_and_counts_as_done(undisturbed, tmp_path):
    mode, _, _ = undisturbed
    command = ordered_long(tmp_path, mode=mode, **SHORT)
    run(command, CountingModel(), Notebook())
    model, notebook = CountingModel(), Notebook()
    run(command, model, notebook)
    assert model.segments == []
    assert notebook.parts == []
    assert "plan: already there" in notebook.lines
    for number in (1, 2, 3):
        assert f"segment {number}/3: already there, not made again" in notebook.lines
        drawn = f"keyframe {number}/3: already there" in notebook.lines
        assert drawn == (mode == "keyframe")
    done = [fraction for phase, fraction, *_ in notebook.reports if phase == "generation"]
    assert done == [0.0, 1 / 3, 2 / 3, 1.0, 1.0]


@pytest.mark.parametrize("lost", ["segments/1.mp4", "segments/1_last.png"])
def test_a_segment_without_its_last_frame_is_made_again_as_is_one_of_which_only_that_is_left(
    tmp_path, lost
):
    command = ordered_long(tmp_path, **SHORT)
    video = video_of(run(command, CountingModel(), Notebook())).read_bytes()
    (tmp_path / lost).unlink()
    model = CountingModel()
    assert video_of(run(command, model, Notebook())).read_bytes() == video
    assert made(model) == ([1], 0)


def test_what_a_killed_process_was_writing_is_taken_for_nothing(tmp_path):
    for name in ("plan.json", "keyframes/1.png", "segments/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.partial").write_bytes(b"half of i")
    model = CountingModel()
    run(ordered_long(tmp_path, mode="keyframe", **SHORT), model, Notebook())
    assert made(model) == ([1, 2, 3], 3)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_model_that_fails_leaves_what_is_done_to_the_next_attempt(tmp_path):
    class Failing(CountingModel):
        def generate(self, segment, watcher):
            if len(self.segments) == 2:
                raise RenderCrashed("No memory is left.")
            return super().generate(segment, watcher)

    command, model = ordered_long(tmp_path, **SHORT), CountingModel()
    with pytest.raises(RenderCrashed, match="No memory"):
        run(command, Failing(), Notebook())
    run(command, model, Notebook())
    assert made(model) == ([3], 0)


# --- clips from elsewhere


@pytest.mark.parametrize("mode", MODES)
def test_clips_that_came_are_not_ordered_again(tmp_path, mode):
    work = folder_in(tmp_path, "work")
    said = {"mode": mode, "frames": 9, "fps": 24}
    first = FilmingModel(frames=12, last_frame=True)
    told = Fragile(work)
    if mode == "keyframe":
        run(ordered_long(work, mode=mode, **SHORT), CountingModel(), Notebook())
        shutil.rmtree(work / "segments")
    video = video_of(run(ordered_long(work, **said), first, told)).read_bytes()
    for count in range(4):
        clips = [f"segments/{number}_clip.mp4" for number in range(1, count + 1)]
        drawn = [f"keyframes/{n}.png" for n in (1, 2, 3)] if mode == "keyframe" else []
        assert set(clips) <= set(told.parts)
        folder = left_by(["plan.json", *drawn, *clips], tmp_path, str(count))
        model = FilmingModel(frames=12, last_frame=True)
        rendered = run(ordered_long(folder, **said), model, Notebook())
        assert video_of(rendered).read_bytes() == video
        assert made(model)[0] == [1, 2, 3][count:]


def test_a_clip_that_is_cut_off_is_not_kept_and_asked_for_again(tmp_path):
    class CutOff(FilmingModel):
        def generate(self, segment, watcher):
            clip = super().generate(segment, watcher)
            return Clip(clip.content[:-200])

    command, notebook = ordered(tmp_path, fps=24), Notebook()
    with pytest.raises(RenderCrashed):
        run(command, CutOff(frames=12), notebook)
    assert notebook.parts == []
    model = FilmingModel(frames=12)
    assert run(command, model, Notebook()).frames == 9
    assert len(model.segments) == 1


# --- a single segment


def test_of_a_single_segment_that_is_rendered_here_no_part_is_worth_keeping(tmp_path):
    notebook = Notebook()
    run(ordered(tmp_path), CountingModel(), notebook)
    assert notebook.parts == []


def test_a_single_clip_that_came_from_elsewhere_is_kept_for_it_was_paid(tmp_path):
    class Ordering(FilmingModel):
        def generate(self, segment, watcher):
            watcher.ordered("operations/1")
            return super().generate(segment, watcher)

    notebook = Fragile(tmp_path)
    run(ordered(tmp_path, fps=24), Ordering(frames=12), notebook)
    assert notebook.parts == ["segments/1_order_1.txt", "segments/1_clip.mp4"]
