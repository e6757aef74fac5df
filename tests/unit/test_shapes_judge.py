"""The eyes that judge the packaged model: what is drawn they see, and nothing else."""

import random

import numpy as np
import pytest
from torch.nn import functional

from services.gpu_worker.engine.video import encode_video
from shared.catalog import Size
from training.clips import draw
from training.judge import Seen, judge, look_at, shape_of
from training.split import held_out_scenes
from training.world import FRAMES, Scene, every_scene

DRAWN = (
    Scene("red", "circle", "left", "navy"),
    Scene("yellow", "star", "rotate", "black"),
    Scene("pink", "triangle", "bounce", "white"),
    Scene("cyan", "square", "grow", "teal"),
    Scene("orange", "square", "up", "sand"),
)


def _seen(scene):
    return Seen(
        colour=scene.colour,
        background=scene.background,
        shape=scene.shape,
        motion=scene.motion,
    )


def _pictures(scene, times):
    """As large as the judge reads them from a file."""
    pictures = draw(scene, times).pictures
    pictures = functional.interpolate(pictures, size=(238, 416), mode="bilinear")
    bright = (pictures.permute(0, 2, 3, 1).numpy() + 1) * 127.5
    return list(bright.round().astype(np.uint8))


@pytest.mark.parametrize("scene", DRAWN, ids=lambda scene: f"{scene.colour} {scene.motion}")
def test_what_is_drawn_is_seen_in_the_mp4(tmp_path, scene):
    file = tmp_path / "clip.mp4"
    pictures = _pictures(scene, range(20, 53, 2))
    encode_video(pictures, file, fps=8, size=Size(832, 480))

    assert look_at(file) == _seen(scene)


def test_every_held_out_scene_is_seen_as_it_is_drawn():
    scenes = held_out_scenes(40, seed=3)
    first = random.Random(0)
    for scene in scenes:
        start = first.randrange(FRAMES - 33)
        times = np.linspace(start, start + 32, 9).tolist()
        pictures = [each.astype(float) for each in _pictures(scene, times)]

        assert judge(pictures) == _seen(scene), scene


def test_an_empty_picture_shows_a_background_and_no_object():
    empty = [np.full((240, 416, 3), (18.0, 26.0, 82.0))] * 9

    assert judge(empty) == Seen(colour=None, background="navy", shape=None, motion=None)


def test_noise_is_no_object_of_the_world():
    noise = np.random.default_rng(0).uniform(0, 255, (9, 240, 416, 3))

    assert judge(list(noise)).shape is None


def test_the_prompts_of_others_are_right_by_chance_only():
    scenes = held_out_scenes(200, seed=3)
    others = scenes[1:] + scenes[:1]

    for name, most in {"colour": 0.3, "background": 0.3, "motion": 0.3, "shape": 0.45}.items():
        same = [getattr(a, name) == getattr(b, name) for a, b in zip(scenes, others, strict=True)]
        assert np.mean(same) < most


@pytest.mark.parametrize("radius", [12, 40])
def test_a_disc_is_a_circle_at_any_size(radius):
    rows, columns = np.mgrid[:240, :416]

    assert shape_of(np.hypot(rows - 120, columns - 200) < radius) == "circle"


def test_no_scene_is_a_circle_that_rotates():
    assert not [s for s in every_scene() if (s.shape, s.motion) == ("circle", "rotate")]
