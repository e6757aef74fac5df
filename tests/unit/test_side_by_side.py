"""Segments that do not depend on each other are made at once, and fall together."""

import threading
import time

import pytest

from services.gpu_worker.backends.backend import Abilities
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.errors import PromptRefused, RenderCrashed
from tests.unit.production_under_test import (
    CountingModel,
    FilmingModel,
    Notebook,
    first_half,
    ordered_long,
    run,
    video_of,
)

ABILITIES = {"stills": True, "first_frame": True, "last_frame": True}
PATIENCE_SECONDS = 20


@pytest.fixture
def command(tmp_path):
    """Its keyframes are drawn."""
    command = ordered_long(tmp_path, mode="keyframe", frames=9, fps=24)
    with pytest.raises(NothingFilmed):
        run(command, Sketching(), Notebook())
    return command


class NothingFilmed(Exception):
    pass


class Sketching(CountingModel):
    """Draws and goes."""

    def generate(self, segment, watcher):
        if segment.frames > 1:
            raise NothingFilmed
        return super().generate(segment, watcher)


class Elsewhere(FilmingModel):
    """Does with a segment as it is told, by the segment's number, before it films."""

    def __init__(self, at_once=3, **by_number):
        super().__init__(frames=9, segments_at_once=at_once)
        self.heard = {}
        self._by_number = by_number

    def generate(self, segment, watcher):
        number = segment.seed - 2
        try:
            self._by_number.get(f"at_{number}", lambda _watcher: None)(watcher)
        except Exception as error:
            self.heard[number] = type(error).__name__
            raise
        return super().generate(segment, watcher)


def waits_for_ever(watcher):
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        watcher.still_waiting()
        time.sleep(0.01)


def fails_with(error):
    def fail(_watcher):
        raise error

    return fail


def test_as_many_as_the_model_takes_are_begun_before_the_first_is_done(command):
    meeting = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    together = dict.fromkeys(("at_1", "at_2", "at_3"), lambda _watcher: meeting.wait())
    run(command, Elsewhere(**together), Notebook())
    assert meeting.n_waiting == 0


def test_no_more_than_the_model_takes_are_made_at_once(command):
    lock, running, most = threading.Lock(), [], []

    class Counting(Elsewhere):
        def generate(self, segment, watcher):
            with lock:
                running.append(segment)
                most.append(len(running))
            time.sleep(0.02)
            try:
                return super().generate(segment, watcher)
            finally:
                running.remove(segment)

    run(command, Counting(at_once=2), Notebook())
    assert max(most) == 2
    assert len(most) == 3


def test_segments_are_joined_in_their_order_whoever_is_done_first(command):
    third_is_done = threading.Event()

    class LastFirst(Elsewhere):
        def generate(self, segment, watcher):
            clip = super().generate(segment, watcher)
            if segment.seed - 2 == 3:
                third_is_done.set()
            return clip

    slow = LastFirst(at_1=lambda _watcher: third_is_done.wait(PATIENCE_SECONDS))
    video = video_of(run(command, slow, Notebook())).read_bytes()
    for part in command.work_dir.glob("segments/*"):
        part.unlink()
    assert video_of(run(command, Elsewhere(at_once=1), Notebook())).read_bytes() == video


def test_what_is_rendered_here_may_be_made_side_by_side_too(tmp_path):
    videos = []
    for at_once in (1, 3):
        folder = tmp_path / str(at_once)
        folder.mkdir()
        model = CountingModel(Abilities(**ABILITIES, segments_at_once=at_once))
        begun = first_half(ordered_long(folder, mode="keyframe"), model, Notebook())
        # The last one is left in latents: its decoding is beside the next video's beginning.
        decoded = {segment.seed - 2 for segment in model.decoded if segment.frames > 1}
        assert decoded == {1, 2}
        videos.append(video_of(begun.finish()).read_bytes())
    assert videos[0] == videos[1]


# --- one fails


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("error", [RenderCrashed("No memory is left."), PromptRefused("No.")])
def test_one_that_fails_ends_the_others_soon_and_its_own_error_is_raised(command, number, error):
    doing = {f"at_{each}": waits_for_ever for each in (1, 2, 3)} | {
        f"at_{number}": fails_with(error)
    }
    model = Elsewhere(**doing)
    started = time.monotonic()
    with pytest.raises(type(error)) as raised:
        run(command, model, Notebook())
    assert raised.value is error
    assert time.monotonic() - started < PATIENCE_SECONDS / 2
    others = {heard for each, heard in model.heard.items() if each != number}
    assert others <= {"Abandoned"}


def test_those_that_have_not_begun_when_one_fails_never_begin(command):
    model = Elsewhere(at_once=2, at_1=waits_for_ever, at_2=fails_with(RenderCrashed("No.")))
    with pytest.raises(RenderCrashed):
        run(command, model, Notebook())
    assert not [segment for segment in model.segments if segment.seed - 2 == 3]


def test_one_that_is_done_when_another_fails_is_kept_for_the_next_attempt(command):
    def fail_after_the_first(watcher):
        while "segments/1_clip.mp4" not in notebook.parts:
            watcher.still_waiting()
        raise RenderCrashed("No memory is left.")

    notebook = Notebook()
    with pytest.raises(RenderCrashed):
        run(command, Elsewhere(at_2=fail_after_the_first, at_3=waits_for_ever), notebook)
    model = Elsewhere()
    run(command, model, Notebook())
    assert sorted(segment.seed - 2 for segment in model.segments) == [2, 3]


# --- a cancel


def test_a_cancel_is_heard_in_all_of_them(command):
    class Canceling(Notebook):
        canceled = threading.Event()

        def cancel_requested(self):
            return self.canceled.is_set()

    def wait_together(watcher):
        meeting.wait()
        notebook.canceled.set()
        waits_for_ever(watcher)

    meeting = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    notebook = Canceling()
    model = Elsewhere(**dict.fromkeys(("at_1", "at_2", "at_3"), wait_together))
    with pytest.raises(RenderCanceled):
        run(command, model, notebook)
    assert sorted(model.heard) == [1, 2, 3]
    assert set(model.heard.values()) <= {"RenderCanceled", "Abandoned"}
