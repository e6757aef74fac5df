"""What is told while a video of several segments comes along: how far it is, and of which segment."""

import itertools

import pytest

from services.gpu_worker.backends.backend import Abilities
from tests.unit.production_under_test import (
    CountingModel,
    FilmingModel,
    Notebook,
    ordered_long,
    run,
)

ABILITIES = {"stills": True, "first_frame": True, "last_frame": True}


def test_every_line_tells_of_which_segment_it_is(tmp_path):
    notebook = Notebook()
    model = CountingModel(Abilities(**ABILITIES, segments_at_once=3))
    run(ordered_long(tmp_path, mode="keyframe"), model, notebook, clock=lambda: 0.0)
    for number in (1, 2, 3):
        label = f"segment {number}/3: "
        told = [line.removeprefix(label) for line in notebook.lines if line.startswith(label)]
        frames = 5 - (number > 1)
        assert told == [
            "step 1/2 (0.00 s)",
            "step 2/2 (0.00 s)",
            "frames decoded (0.00 s)",
            f"{frames} frames encoded (0.00 s)",
        ]


ROADS = {
    "chained": ({"mode": "chaining"}, CountingModel),
    "keyframes": ({"mode": "keyframe"}, CountingModel),
    "side by side": (
        {"mode": "keyframe"},
        lambda: CountingModel(Abilities(**ABILITIES, segments_at_once=3)),
    ),
    "clips": ({"mode": "chaining", "fps": 24}, lambda: FilmingModel(frames=9)),
}


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("left", ["nothing", "a segment", "everything"])
def test_progress_walks_every_phase_from_0_to_1_and_never_back(tmp_path, road, left):
    said, model = ROADS[road]
    command, notebook = ordered_long(tmp_path, **said), Notebook()
    if left != "nothing":
        run(command, model(), Notebook())
    if left == "a segment":
        for part in (*tmp_path.glob("segments/1*"), *tmp_path.glob("segments/3*")):
            part.unlink()
    run(command, model(), notebook)
    phases = [phase for phase, _ in itertools.groupby(notebook.reports, key=lambda it: it[0])]
    assert phases == ["plan", "keyframes", "generation", "stitch"]
    for phase in phases:
        fractions = [report[1] for report in notebook.reports if report[0] == phase]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_all_segments_count_alike_and_a_segment_is_done_when_it_is_a_file(tmp_path):
    notebook = Notebook()
    run(ordered_long(tmp_path, segments=2), CountingModel(), notebook)
    generation = [report[1:] for report in notebook.reports if report[0] == "generation"]
    # Two steps, decoding and encoding are a quarter of a segment each, a segment is half of all.
    assert (1 / 8, 1, 2) in generation
    assert (2 / 8, 2, 2) in generation
    assert (3 / 8, 2, 2) in generation
    assert (4 / 8, 2, 2) in generation
    assert (4 / 8 + 1 / 8, 1, 2) in generation
