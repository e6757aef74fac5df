"""What a step of the training sees: parts of clips, captions, and prompts as a render reads them."""

import random
from dataclasses import replace

import pytest
import torch

from training.clips import Clip
from training.first_flow import begin_with_noise
from training.flow_stage import Model, noise_levels
from training.network import LATENT_CHANNELS
from training.pool import Normal, backwards, take
from training.reading import TOKENS_MAX, Reader, count_tokens
from training.split import is_held_out, training_scenes
from training.words import new_tokenizer
from training.world import LATENT_FRAMES, every_scene

CHANNELS = LATENT_CHANNELS
NORMAL = Normal(torch.zeros(CHANNELS), torch.ones(CHANNELS))


def _clip(scene):
    """Each latent frame holds its own number."""
    numbers = torch.arange(LATENT_FRAMES, dtype=torch.float16).view(1, -1, 1, 1)
    latents, cells = numbers.expand(CHANNELS, -1, 2, 2), numbers[0].expand(-1, 4, 4)
    return Clip(scene, latents, cells, torch.zeros(LATENT_FRAMES, 2))


def _scene(motion, *, mirrored):
    """One whose clip may be turned around, and one whose clip may not."""
    opposite = {"left": "right", "grow": "shrink", "rotate": "rotate"}[motion]
    return next(
        scene
        for scene in training_scenes()
        if scene.motion == motion and is_held_out(replace(scene, motion=opposite)) != mirrored
    )


@pytest.mark.parametrize(("motion", "opposite"), [("left", "right"), ("grow", "shrink")])
def test_a_clip_backwards_shows_the_opposite_motion(motion, opposite):
    clip = _clip(_scene(motion, mirrored=True))

    turned = backwards(clip)

    assert turned.scene == replace(clip.scene, motion=opposite)
    assert torch.equal(turned.latents.flip(1), clip.latents)


def test_no_clip_is_turned_into_a_scene_that_is_held_out():
    clip = _clip(_scene("left", mirrored=False))

    assert backwards(clip) is clip


def test_what_rotates_backwards_is_another_motion_that_has_no_name():
    clip = _clip(_scene("rotate", mirrored=True))

    assert backwards(clip) is clip


def test_a_part_of_a_clip_is_as_long_as_asked_and_goes_on_from_frame_to_frame():
    clips = [_clip(scene) for scene in training_scenes()[:20]]

    batch = take(clips, frames=5, count=8, normal=NORMAL, dice=random.Random(1))

    assert batch.latents.shape == (8, CHANNELS, 5, 2, 2)
    assert len(batch.prompts) == 8
    steps = batch.latents[:, 0, :, 0, 0].diff(dim=1)
    assert set(steps.abs().flatten().tolist()) == {1.0}


def test_a_tenth_of_the_captions_is_empty():
    clips = [_clip(scene) for scene in training_scenes()[:20]]

    prompts = take(clips, frames=1, count=2000, normal=NORMAL, dice=random.Random(1)).prompts

    assert 0.07 < prompts.count("") / len(prompts) < 0.13


def test_noise_levels_are_those_of_a_render_more_noise_than_not():
    levels = noise_levels(1000, torch.Generator().manual_seed(0))

    assert levels.min() > 0
    assert levels.max() <= 1
    assert 0.72 < levels.median() < 0.78  # half of the way, shifted by 3


@pytest.fixture(scope="module")
def tokenizer():
    return new_tokenizer(seed=1)


@torch.no_grad()
def test_prompts_are_read_in_training_as_diffusers_reads_them(tokenizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = Model(len(tokenizer)).eval()
        latents = torch.randn(2, CHANNELS, 2, 6, 4)
    time = torch.tensor([900.0, 300.0])
    prompts = ["a red circle moving left on a navy background", ""]
    read = tokenizer(prompts, padding="max_length", max_length=TOKENS_MAX, return_tensors="pt")
    mask = read.attention_mask
    padded = model.text_encoder(read.input_ids, mask).last_hidden_state * mask[..., None]
    expected = model.transformer(latents, time, padded, return_dict=False)[0]

    attention = count_tokens(model.transformer)
    reader = Reader(tokenizer, model.text_encoder, torch.device("cpu"))
    short, attention.weights = reader.read(prompts)
    found = model.transformer(latents, time, short, return_dict=False)[0]

    assert short.shape[1] < 20
    assert torch.allclose(found, expected, atol=1e-4)


@torch.no_grad()
def test_the_transformer_begins_by_taking_what_it_sees_for_noise(tokenizer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = Model(len(tokenizer)).transformer
        begin_with_noise(transformer, torch.Generator().manual_seed(0))
        seen = torch.randn(1, CHANNELS, 2, 8, 14) * torch.tensor(
            [3.0] + [1.0] * (CHANNELS - 1)
        ).view(1, -1, 1, 1, 1)

    said = transformer(seen, torch.tensor([900.0]), torch.zeros(1, 9, 96), return_dict=False)[0]

    assert (said - seen).square().mean() < 0.1 * seen.square().mean()


def test_every_scene_is_either_learned_or_held_out():
    held_out = [scene for scene in every_scene() if is_held_out(scene)]

    assert len(held_out) + len(training_scenes()) == len(every_scene())
    assert 0.05 < len(held_out) / len(every_scene()) < 0.25
