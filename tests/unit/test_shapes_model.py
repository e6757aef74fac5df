"""The small model as its training saves it: small, whole, and rendered as diffusers renders it.

Its weights are random here: what training makes of them is in ``tests/journey/test_obedience.py``, and measured
by ``benchmarks/obedience.py``.
"""

import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.reference import load_reference
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import find_model
from shared.config import Config
from shared.errors import ModelUnavailable
from training.first_weights import begin_with_colours
from training.flow_stage import Model
from training.network import LATENT_CHANNELS, new_transformer, new_vae
from training.package import save_model, whole_vae
from training.words import new_tokenizer

MODEL = find_model("wan2.1-shapes")
SETTINGS = {"device": "cpu", "dtype": "auto", "how_to_get": ""}
LARGEST_BYTES = 16_000_000
DISTILLED = "diffusion_pytorch_model.distilled.safetensors"
PROMPT = "a red circle moving left on a navy background"


class Notes:
    def __init__(self):
        self.notes = []

    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        pass

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("shapes")
    tokenizer = new_tokenizer(seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, vae = Model(len(tokenizer)), new_vae()
        begin_with_colours(vae, spread=0.1)
        vae = whole_vae(
            vae.state_dict(), torch.full((LATENT_CHANNELS,), 0.1), torch.ones(LATENT_CHANNELS)
        )
    save_model(
        directory,
        tokenizer=tokenizer,
        text_encoder=model.text_encoder,
        transformer=model.transformer,
        vae=vae,
        distilled=_distilled(),
    )
    return directory


def _distilled():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return new_transformer()


@pytest.fixture(scope="module")
def wan(directory):
    return load_wan(directory, **SETTINGS)


@pytest.fixture(scope="module")
def distilled_wan(directory, tmp_path_factory):
    """The same model, its distilled weights being all it has."""
    alone = tmp_path_factory.mktemp("distilled") / "model"
    shutil.copytree(directory, alone)
    folder = alone / "transformer"
    (folder / DISTILLED).rename(folder / "diffusion_pytorch_model.safetensors")
    index = alone / "model_index.json"
    index.write_text(index.read_text(encoding="utf-8").replace("WanPipeline", "WanDMDPipeline"))
    return load_wan(alone, **SETTINGS)


def _segment(prompt, **changes):
    settings = {
        "negative_prompt": "",
        "seed": 1,
        "frames": 9,
        "size": MODEL.native_size,
        "steps": 2,
        "guidance_scale": 4.0,
        "flow_shift": 3.0,
    }
    return Segment(prompt=prompt, **(settings | changes))


@pytest.mark.parametrize("packaged", [False, True], ids=["random weights", "as it is packaged"])
def test_all_of_it_is_small_and_in_half_precision(directory, packaged):
    folder = Config().dir_of(MODEL.name) if packaged else directory
    files = [file for file in folder.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert {file.parent.name for file in weights} == {"text_encoder", "transformer", "vae"}
    for file in weights:
        with safe_open(file, "pt") as content:
            names = list(content.keys())
            assert {content.get_slice(name).get_dtype() for name in names} == {"F16"}


@pytest.mark.parametrize("frames", [1, 9])
def test_the_engine_shows_what_diffusers_shows(directory, wan, frames):
    segment = _segment(PROMPT, frames=frames)

    found = wan.render(segment, Notes())
    expected = load_reference(directory, **SETTINGS).render(segment, Notes())

    assert found.shape == (frames, segment.size.height, segment.size.width, 3)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_the_same_seed_repeats_and_another_differs(wan):
    first = wan.render(_segment(PROMPT), Notes())

    assert np.array_equal(wan.render(_segment(PROMPT), Notes()), first)
    assert not np.array_equal(wan.render(_segment(PROMPT, seed=2), Notes()), first)


def test_the_fast_preset_is_rendered_by_the_distilled_weights(wan, distilled_wan):
    fast = MODEL.presets["fast"]
    segment = _segment(
        PROMPT,
        frames=5,
        steps=fast.steps,
        guidance_scale=fast.guidance_scale,
        flow_shift=fast.flow_shift,
        scheduler=fast.scheduler,
        timesteps=fast.timesteps,
    )

    found = wan.render(segment, Notes())

    assert np.array_equal(found, distilled_wan.render(segment, Notes()))


def test_distilled_weights_alone_render_nothing_but_the_fast_preset(distilled_wan):
    with pytest.raises(ModelUnavailable, match="are the distilled ones"):
        distilled_wan.render(_segment(PROMPT), Notes())


def test_unknown_words_are_said_by_their_places_and_never_themselves(wan):
    watcher = Notes()

    wan.render(_segment("a shiny red circle on velvet", frames=1, steps=1), watcher)

    assert watcher.notes == ["this small model does not know 2 of the prompt's 6 words: 2, 6"]


def test_known_words_are_not_worth_a_line(wan):
    watcher = Notes()

    wan.render(_segment(PROMPT, frames=1, steps=1), watcher)

    assert watcher.notes == []


def test_the_decoder_begins_with_the_colours_that_the_encoder_was_shown(directory):
    red = torch.tensor([220.0, 35.0, 40.0]).div(127.5).sub(1).view(1, 3, 1, 1, 1)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        vae = new_vae()
        begin_with_colours(vae, spread=0.1)
        latents = vae.encode(red.expand(1, 3, 5, 64, 64)).latent_dist.mean
        shown = vae.decode(latents).sample[..., 24:40, 24:40].mean((0, 2, 3, 4))

    assert shown[0] > 0.4
    assert shown[1:].max() < -0.3
