"""What the packaged model learned from: captions say what clips show, and some scenes are kept back."""

import random

import pytest
import torch

from training.captions import UNKNOWN_WORD, caption, every_word, prompt
from training.clips import draw
from training.drawing import Objects, coverage
from training.paths import objects_of
from training.split import held_out_scenes, is_held_out, training_scenes
from training.words import END, UNKNOWN, new_tokenizer
from training.world import (
    BACKGROUNDS,
    COLOURS,
    FRAMES,
    HEIGHT,
    MOTIONS,
    SHAPES,
    WIDTH,
    Scene,
    every_scene,
)

RED_CIRCLE = Scene("red", "circle", "left", "navy")


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(seed=1)


def test_the_plainest_prompt_reads_as_people_write_it():
    assert prompt(RED_CIRCLE) == "a red circle moving left on a navy background"
    assert prompt(Scene("orange", "star", "still", "grey")).startswith(
        "an orange star standing still"
    )


def test_a_scene_is_said_in_many_ways_and_the_same_dice_say_the_same():
    said = {caption(RED_CIRCLE, random.Random(seed)) for seed in range(200)}

    assert len(said) > 60
    assert caption(RED_CIRCLE, random.Random(5)) == caption(RED_CIRCLE, random.Random(5))


def test_no_caption_names_another_colour_motion_or_background():
    others = (set(COLOURS) | set(BACKGROUNDS) | {"right", "up", "down"}) - {"red", "navy"}
    for seed in range(300):
        words = set(caption(RED_CIRCLE, random.Random(seed)).replace(",", "").rstrip(".").split())

        assert not words & others


def test_the_tokenizer_knows_every_word_of_the_captions(tokenizer):
    assert UNKNOWN not in tokenizer.tokenize(" ".join(every_word()))


def test_an_unknown_word_is_one_unknown_token_and_no_error(tokenizer):
    read = tokenizer.convert_ids_to_tokens(tokenizer("a shiny RED circle").input_ids)

    assert read == ["a", UNKNOWN, "red", "circle", END]
    assert UNKNOWN in tokenizer.tokenize(UNKNOWN_WORD)
    assert tokenizer("").input_ids == tokenizer.convert_tokens_to_ids([END])


def test_what_is_held_out_never_comes_together_in_training():
    seen = {(scene.colour, scene.shape, scene.motion) for scene in training_scenes()}
    held_out = held_out_scenes(100, seed=1)

    assert len(set(held_out)) == 100
    for scene in held_out:
        assert is_held_out(scene)
        assert (scene.colour, scene.shape, scene.motion) not in seen


def test_each_colour_shape_motion_and_background_is_in_training():
    scenes = training_scenes()

    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert {scene.shape for scene in scenes} == set(SHAPES)
    assert {scene.motion for scene in scenes} == set(MOTIONS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert len(scenes) < len(every_scene())


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_one_radius_cover_about_as_much(shape):
    one = torch.ones(1)
    objects = Objects(
        shape=torch.tensor([SHAPES.index(shape)]),
        x=one * 100,
        y=one * 100,
        radius=one * 30,
        angle=one * 0,
        colour=torch.ones(1, 3),
    )
    pixels = torch.arange(200.0)[None]

    covered = float(coverage(objects, pixels, pixels).sum())

    assert 0.8 < covered / (3.1416 * 30**2) < 1.1


@pytest.mark.parametrize("scene", every_scene()[::37], ids=str)
def test_an_object_never_leaves_the_frame(scene):
    where = objects_of(scene, range(FRAMES))
    reach = 1.45 * where.radius

    assert (where.x - reach).min() > 0
    assert (where.x + reach).max() < WIDTH
    assert (where.y - reach).min() > 0
    assert (where.y + reach).max() < HEIGHT


def test_a_clip_shows_the_colours_it_is_said_to_show():
    drawn = draw(RED_CIRCLE, [0])
    colours = (drawn.pictures[0] + 1) * 127.5
    inside, outside = drawn.covered[0] == 1, drawn.covered[0] == 0

    assert torch.allclose(colours[:, inside].mean(1), torch.tensor(COLOURS["red"]).float(), atol=1)
    navy = torch.tensor(BACKGROUNDS["navy"]).float()
    assert torch.allclose(colours[:, outside].mean(1), navy, atol=1)
