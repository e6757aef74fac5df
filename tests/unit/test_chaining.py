"""Each segment goes on from the last frame of the one before: none is lost, none shown twice."""

import pytest
from PIL import Image

from services.gpu_worker.backends.backend import Abilities
from shared.catalog import Size
from shared.errors import InvalidRequest
from tests.unit import films
from tests.unit.production_under_test import (
    CountingModel,
    FakeModel,
    FilmingModel,
    Notebook,
    number_of,
    ordered_long,
    run,
    video_of,
)


@pytest.fixture
def ordered(tmp_path):
    return lambda **said: ordered_long(tmp_path, **said)


def begun_with(model):
    """The numbers of the frames that its segments were to begin with."""
    pictures = [segment.first_frame for segment in model.segments]
    return [None if picture is None else number_of(picture) for picture in pictures]


# --- rendered here


def test_a_segment_begins_with_the_very_last_frame_of_the_one_before(ordered):
    model = CountingModel()
    run(ordered(), model, Notebook())
    assert begun_with(model) == [None, 4, 8]
    # Before it was encoded: every pixel as it was.
    expected = films.picture(4, model.segments[0].size)
    assert (model.segments[1].first_frame == expected).all()
    assert {segment.last_frame for segment in model.segments} == {None}


def test_the_first_segment_begins_with_the_picture_that_was_given_cut_to_fit(ordered, tmp_path):
    given = tmp_path / "first_frame.webp"
    native = Size(32, 16)
    Image.fromarray(films.picture(40, native)).resize((320, 160)).save(given, lossless=True)
    model = CountingModel()
    run(ordered(first_frame=given, mode="single", segments=1), model, Notebook())
    assert begun_with(model) == [40]
    assert model.segments[0].first_frame.shape == (16, 32, 3)


def test_no_frame_is_lost_or_doubled_where_segments_meet(ordered):
    rendered = run(ordered(), CountingModel(), Notebook())
    assert films.numbers(video_of(rendered)) == list(range(5 * 3 - 2))
    assert rendered.frames == 13


@pytest.mark.parametrize(("segments", "frames"), [(2, 9), (3, 13)])
def test_a_seamless_video_is_copied_together_and_not_encoded_again(ordered, segments, frames):
    notebook = Notebook()
    run(ordered(segments=segments), CountingModel(), notebook)
    told = f"stitch: {segments} segments joined, {frames} frames as they are, 0.0 MB"
    assert told in notebook.lines


def test_segments_depend_on_each_other_so_one_is_made_after_the_other(ordered):
    model = CountingModel(Abilities(first_frame=True, segments_at_once=4))
    rendered = run(ordered(), model, Notebook())
    assert films.numbers(video_of(rendered)) == list(range(13))


def test_each_segment_gets_its_own_prompt_and_seed_and_all_else_as_ordered(ordered):
    model = FakeModel()
    run(ordered(seed=2**63 - 2, guidance_scale=4.5, fps=24), model, Notebook())
    assert [segment.prompt for segment in model.segments] == [
        "A park 10.",
        "A park 10. A dog 40.",
        "A park 10. A cat 70.",
    ]
    assert [segment.seed for segment in model.segments] == [2**63 - 2, 2**63 - 1, 0]
    assert {(it.frames, it.fps, it.guidance_scale) for it in model.segments} == {(5, 24, 4.5)}


def test_segments_that_are_crossfaded_overlap_by_so_many_frames(ordered):
    notebook = Notebook()
    rendered = run(ordered(frames=9, crossfade_frames=2), CountingModel(), notebook)
    assert rendered.frames == 9 + 8 + 8 - 2 * 2
    shown = films.numbers(video_of(rendered))
    assert shown[:7] == list(range(7))
    # The second segment's third frame is the first that is shown alone.
    assert shown[9] == 11
    assert shown[-1] == 24
    assert any("21 frames encoded again" in line for line in notebook.lines)


def test_a_crossfade_longer_than_the_segments_is_the_requesters(ordered):
    with pytest.raises(InvalidRequest, match="crossfade"):
        run(ordered(crossfade_frames=3), CountingModel(), Notebook())


# --- the sheet of the seams


def test_a_video_of_several_segments_shows_its_seams_beside_the_other_files(ordered, tmp_path):
    rendered = run(ordered(), CountingModel(), Notebook())
    assert [file.kind for file in rendered.files] == ["video", "poster", "spritesheet", "seams"]
    seams = rendered.files[-1]
    assert (seams.path, seams.content_type) == (tmp_path / "seams.png", "image/png")
    with Image.open(seams.path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.size == (seams.width, seams.height)


def test_every_seam_has_a_row_of_its_own(ordered, tmp_path):
    heights = []
    for segments in (2, 3):
        folder = tmp_path / str(segments)
        folder.mkdir()
        rendered = run(ordered(segments=segments, work_dir=folder), CountingModel(), Notebook())
        heights.append(rendered.files[-1].height)
    assert heights[1] > heights[0] * 1.5


@pytest.mark.parametrize("mode", ["single", "chaining", "keyframe"])
def test_a_video_of_one_segment_has_no_seams(ordered, mode):
    rendered = run(ordered(mode=mode, segments=1), CountingModel(), Notebook())
    assert [file.kind for file in rendered.files] == ["video", "poster", "spritesheet"]


# --- clips from elsewhere


def test_a_longer_clip_is_cut_and_the_next_one_goes_on_from_the_last_that_is_shown(ordered):
    model = FilmingModel(frames=30)
    rendered = run(ordered(frames=9, fps=24), model, Notebook())
    assert begun_with(model) == [None, 8, 17]
    # Each clip's first frame is the one before's last; as many as were ordered come after it.
    assert films.numbers(video_of(rendered)) == list(range(9 + 9 + 9))
    assert rendered.frames == 27


def test_a_clip_just_as_long_as_the_segment_gives_one_frame_less(ordered):
    model = FilmingModel(frames=9)
    rendered = run(ordered(frames=9, fps=24), model, Notebook())
    assert begun_with(model) == [None, 8, 16]
    assert films.numbers(video_of(rendered)) == list(range(9 * 3 - 2))


def test_a_clip_of_more_frames_a_second_goes_on_from_the_last_that_is_shown(ordered):
    model = FilmingModel(frames=30)
    rendered = run(ordered(frames=9, fps=16, segments=2), model, Notebook())
    shown = films.numbers(video_of(rendered))
    assert shown[:9] == [0, 1, 3, 4, 6, 7, 9, 10, 12]
    assert begun_with(model) == [None, 12]
    assert shown[9:] == [12 + later for later in (1, 3, 4, 6, 7, 9, 10, 12, 13)]


def test_a_shorter_clip_of_more_frames_a_second_goes_on_from_the_last_that_is_shown(ordered):
    model = FilmingModel(frames=12)
    rendered = run(ordered(frames=9, fps=16, segments=2), model, Notebook())
    shown = films.numbers(video_of(rendered))
    assert shown[:8] == [0, 1, 3, 4, 6, 7, 9, 10]
    assert begun_with(model) == [None, 10]


def test_a_clip_of_another_size_fills_the_video(ordered):
    model = FilmingModel(frames=30, size=Size(128, 64))
    rendered = run(ordered(frames=9, fps=24), model, Notebook())
    (video, *_) = rendered.files
    frame = films.frames(video.path)[0]
    assert (frame.width, frame.height) == (video.width, video.height) == (64, 32)


def test_a_clip_is_kept_as_it_came(ordered, tmp_path):
    notebook, model = Notebook(), FilmingModel(frames=30)
    run(ordered(frames=9, fps=24), model, notebook)
    assert notebook.parts == ["plan.json", *(f"segments/{n}_clip.mp4" for n in (1, 2, 3))]
    clip = films.frames(tmp_path / "segments" / "1_clip.mp4")
    assert (len(clip), clip[0].width) == (30, 96)
