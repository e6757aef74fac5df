"""What the demo model shows can be encoded and shown again, and it moves evenly."""

import numpy as np
import pytest
import torch

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.companion_files import CompanionFiles
from services.gpu_worker.engine.demo_network import IMAGE_TO_VIDEO
from services.gpu_worker.engine.image_to_video import encode_picture
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import Size


class Quiet:
    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        pass


@pytest.fixture(scope="module")
def wan(demo_model_dir):
    return load_wan(
        demo_model_dir,
        device="cpu",
        dtype="auto",
        how_to_get="",
        companion=CompanionFiles(demo_model_dir / IMAGE_TO_VIDEO),
    )


def _clip(wan, prompt, seed):
    segment = Segment(
        prompt=prompt,
        negative_prompt="snow",
        seed=seed,
        frames=17,
        size=Size(160, 96),
        steps=4,
        guidance_scale=5.0,
        flow_shift=3.0,
    )
    return wan.render(segment, Quiet())


def _shown_again(wan, picture):
    with torch.inference_mode():
        encoded = encode_picture(wan._image_to_video._pipeline.vae, picture)
    return wan._renderer.decode(encoded, "full", Quiet())[0]


def _likeness(one, other):
    """Peak signal to noise, in decibels."""
    error = ((one.astype(float) - other) ** 2).mean()
    return 10 * np.log10(255**2 / error)


CLIPS = [("a red circle", 1), ("ocean waves at sunset", 1), ("ocean waves at sunset", 2)]


@pytest.mark.parametrize(("prompt", "seed"), CLIPS)
def test_a_picture_that_it_has_made_is_shown_again_when_encoded(wan, prompt, seed):
    picture = _clip(wan, prompt, seed)[-1]

    again = _shown_again(wan, picture)

    assert picture.std() > 15
    assert _likeness(picture, again) > 34


@pytest.mark.parametrize("level", [40, 128, 215])
def test_one_color_is_shown_as_it_is_but_at_the_very_edge(wan, level):
    picture = np.full((48, 80, 3), level, np.uint8)

    again = _shown_again(wan, picture)

    assert np.abs(again[1:-1, 1:-1].astype(int) - level).max() <= 1


@pytest.mark.parametrize(("prompt", "seed"), CLIPS)
def test_no_frame_jumps(wan, prompt, seed):
    frames = _clip(wan, prompt, seed).astype(int)

    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))

    assert steps.min() > 1
    assert steps.max() < 4 * np.median(steps)


def test_prompts_have_colors_of_their_own_and_seeds_do_not(wan):
    colors = [_clip(wan, *clip)[8:].mean((0, 1, 2)) for clip in CLIPS]

    assert np.abs(colors[0] - colors[1]).max() > 20
    assert np.abs(colors[1] - colors[2]).max() < 10
