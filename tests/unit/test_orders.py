"""Segments that are ordered from Veo, within a video: each is paid once, whoever dies meanwhile."""

import base64
import re
import shutil
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from services.emulators.vertex import vertex_server
from services.emulators.vertex_script import Filtered
from services.gpu_worker.backends.veo3 import Veo3
from services.gpu_worker.engine.footage import frame_at
from services.gpu_worker.engine.pictures import save_picture
from services.gpu_worker.pipeline.watcher import RenderCanceled
from shared.catalog import Size
from shared.errors import PromptRefused
from tests.unit import films
from tests.unit.production_under_test import (
    Notebook,
    ordered_long,
    run,
    vertex_asked_at,
    video_of,
)
from tests.unit.vertex_under_test import POLL, SUBMIT

NATIVE = {"native_width": 128, "native_height": 72, "output_width": 64, "output_height": 36}
PROMPTS = ("A park 10.", "A park 10. A dog 40.", "A park 10. A cat 70.")
FOR_EVER = 10**9
WITHOUT_LAST_FRAME = "veo-3.0-generate-001"


@pytest.fixture
def server():
    with vertex_server(polls=2) as running:
        yield running


@pytest.fixture
def veo(server, tmp_path_factory):
    """A new process' model, each time."""
    folder = tmp_path_factory.mktemp("keys")
    return lambda **change: Veo3(vertex_asked_at(server, folder, **change))


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def together(server, monkeypatch):
    """Three orders are taken at once or none; each comes after as many polls as is said."""

    def let(polls_of):
        meeting = threading.Barrier(3, timeout=20)
        submit = server.operations.submit

        def submit_together(*order):
            meeting.wait()
            told = submit(*order)
            operation = server.operations._operations[told["name"]]
            operation.polls_left = polls_of(operation)
            return told

        monkeypatch.setattr(server.operations, "submit", submit_together)

    return let


def command(folder, **said):
    """Of segments a little shorter than the clips that are ordered for them."""
    veos = {"frames": 90, "fps": 24, "steps": 0, "segments": 2}
    return ordered_long(folder, **NATIVE | veos | said)


def drawn(folder, count):
    """The keyframes of a video; each is a number."""
    (folder / "keyframes").mkdir()
    pictures = [films.picture(number, Size(128, 72)) for number in range(count)]
    for number, picture in enumerate(pictures, start=1):
        save_picture(picture, folder / "keyframes" / f"{number}.png")
    return pictures


def calls(server):
    return [asked.call for asked in server.script.asked]


def orders(server):
    """What was sent with each, by what it was to show."""
    bodies = [asked.body for asked in server.script.asked if asked.call == SUBMIT]
    instances = [body["instances"][0] for body in bodies]
    return {instance["prompt"]: instance for instance in instances}


def picture_in(instance, name):
    # Google's client writes the alphabet for URLs.
    content = base64.b64decode(instance[name]["bytesBase64Encoded"], altchars=b"-_")
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image)


class CanceledOnceOrdered(Notebook):
    """Wants no more when so many clips are ordered."""

    def __init__(self, orders):
        super().__init__()
        self._orders = orders

    def cancel_requested(self):
        return sum("_order_" in part for part in self.parts) == self._orders


# --- one after the other


def test_chained_segments_are_ordered_one_when_the_other_has_come(server, veo, work):
    run(command(work), veo(), Notebook())
    assert calls(server) == [SUBMIT, POLL, POLL, POLL] * 2


def test_a_segment_begins_with_the_picture_that_is_shown_last_of_the_one_before(server, veo, work):
    rendered = run(command(work), veo(), Notebook())
    first, second = orders(server).values()
    assert "image" not in first
    clip = work / "segments" / "1_clip.mp4"
    assert len(films.frames(clip)) == 96
    np.testing.assert_array_equal(picture_in(second, "image"), frame_at(clip, 89))
    assert "lastFrame" not in second
    # Ninety of the first; of the second ninety after the one that is known.
    assert rendered.frames == 90 + 90
    assert len(films.frames(video_of(rendered))) == rendered.frames


# --- side by side


def test_segments_between_keyframes_are_all_ordered_before_the_first_has_come(
    server, veo, work, together
):
    drawn(work, 3)
    together(lambda _operation: 0)
    rendered = run(command(work, mode="keyframe", segments=3), veo(), Notebook())
    assert calls(server).count(SUBMIT) == 3
    assert rendered.frames == 96 + 95 + 90


@pytest.mark.parametrize("change", [{}, {"veo_model": WITHOUT_LAST_FRAME}])
def test_each_segment_is_sent_its_keyframe_and_the_next_one_where_veo_knows_how(
    server, veo, work, change
):
    pictures = drawn(work, 3)
    run(command(work, mode="keyframe", segments=3), veo(**change), Notebook())
    for number, prompt in enumerate(PROMPTS):
        instance = orders(server)[prompt]
        np.testing.assert_array_equal(picture_in(instance, "image"), pictures[number])
        if change or number == 2:
            assert "lastFrame" not in instance
        else:
            np.testing.assert_array_equal(picture_in(instance, "lastFrame"), pictures[number + 1])


def test_a_filtered_clip_is_the_requesters_and_the_others_orders_are_known(
    server, veo, work, together
):
    server.script.next_clip(Filtered())
    drawn(work, 3)
    together(lambda operation: 0 if operation.outcome else FOR_EVER)
    notebook = Notebook()
    with pytest.raises(PromptRefused):
        run(command(work, mode="keyframe", segments=3), veo(), notebook)
    assert sorted(part for part in notebook.parts if "order" in part) == [
        f"segments/{number}_order_1.txt" for number in (1, 2, 3)
    ]


# --- an operation outlives who ordered it


def test_the_operation_is_a_part_before_the_clip_has_come(server, veo, work):
    notebook = CanceledOnceOrdered(1)
    with pytest.raises(RenderCanceled):
        run(command(work, segments=1), veo(), notebook)
    # Of a single segment too: it is paid for.
    assert notebook.parts == ["segments/1_order_1.txt"]
    (operation,) = server.operations._operations
    assert (work / "segments" / "1_order_1.txt").read_text() == f"{operation}\n"
    for text in notebook.lines:
        assert operation not in text


@pytest.mark.parametrize("orders_before", [1, 2])
def test_another_machine_waits_for_what_was_ordered_and_orders_the_rest(
    server, veo, work, tmp_path, orders_before
):
    killed = CanceledOnceOrdered(orders_before)
    with pytest.raises(RenderCanceled):
        run(command(work), veo(), killed)
    folder = tmp_path / "another machine"
    (folder / "segments").mkdir(parents=True)
    for part in killed.parts:
        shutil.copy(work / part, folder / part)
    notebook = Notebook()
    run(command(folder), veo(), notebook)
    assert calls(server).count(SUBMIT) == 2
    waiting = [line for line in notebook.lines if "ordered before" in line]
    assert waiting == [f"segment {orders_before}/2: Waiting for the clip that was ordered before."]


def test_all_that_were_ordered_side_by_side_are_waited_for(server, veo, work):
    drawn(work, 3)
    order = command(work, mode="keyframe", segments=3)
    with pytest.raises(RenderCanceled):
        run(order, veo(), CanceledOnceOrdered(3))
    run(order, veo(), Notebook())
    assert calls(server).count(SUBMIT) == 3


def test_a_lost_operation_is_ordered_anew_and_kept_beside_the_old_one(server, veo, work):
    order = command(work, segments=1)
    with pytest.raises(RenderCanceled):
        run(order, veo(), CanceledOnceOrdered(1))
    first = (work / "segments" / "1_order_1.txt").read_text()
    server.operations.forget()
    notebook = Notebook()
    run(order, veo(), notebook)
    assert calls(server).count(SUBMIT) == 2
    assert notebook.parts == ["segments/1_order_2.txt", "segments/1_clip.mp4"]
    assert (work / "segments" / "1_order_1.txt").read_text() == first
    second = (work / "segments" / "1_order_2.txt").read_text()
    assert second != first
    # Whoever comes for it once more asks for the newer one.
    (work / "segments" / "1_clip.mp4").unlink()
    server.script.asked.clear()
    run(order, veo(), Notebook())
    (asked,) = server.script.asked
    assert asked.body["operationName"] == second.strip()


def test_each_line_of_an_order_tells_of_which_segment_it_is(server, veo, work):
    notebook = Notebook()
    run(command(work), veo(), notebook)
    told = [line for line in notebook.lines if "Ordered a clip" in line]
    assert [re.match(r"segment \d/\d: ", line)[0] for line in told] == [
        "segment 1/2: ",
        "segment 2/2: ",
    ]
