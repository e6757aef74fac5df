"""The model that comes with Promptreel: small, whole, and it shows what was asked for."""

import json

import numpy as np
import pytest
from safetensors import safe_open

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.reference import load_reference
from services.gpu_worker.engine.video import encode_video
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import find_model
from shared.config import load_config
from training.judge import look_at

MODEL = find_model("wan2.1-shapes")
DIRECTORY = load_config(None).dir_of(MODEL.name)
SETTINGS = {"device": "cpu", "dtype": "auto", "how_to_get": ""}
LARGEST_BYTES = 16_000_000
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
def wan():
    return load_wan(DIRECTORY, **SETTINGS)


def _segment(prompt, **changes):
    preset = MODEL.presets["reference"]
    settings = {
        "negative_prompt": "",
        "seed": 1,
        "frames": 17,
        "size": MODEL.native_size,
        "steps": preset.steps,
        "guidance_scale": preset.guidance_scale,
        "flow_shift": preset.flow_shift,
    }
    return Segment(prompt=prompt, **(settings | changes))


def test_all_of_it_is_small_and_in_half_precision():
    files = [file for file in DIRECTORY.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES
    weights = [file for file in files if file.suffix == ".safetensors"]
    assert {file.parent.name for file in weights} == {"text_encoder", "transformer", "vae"}
    for file in weights:
        with safe_open(file, "pt") as content:
            assert {content.get_slice(name).get_dtype() for name in content.keys()} == {"F16"}  # noqa: SIM118 - no mapping


def test_it_says_what_it_is_and_under_which_licence():
    card = (DIRECTORY / "README.md").read_text(encoding="utf-8")

    assert card.startswith("---\nlicense: apache-2.0\n")
    for part in ("Training", "Evaluation", "Limits", "python -m training"):
        assert part in card
    index = json.loads((DIRECTORY / "model_index.json").read_text(encoding="utf-8"))
    assert index["_class_name"] == "WanPipeline"


@pytest.mark.parametrize(
    ("prompt", "colour", "background"),
    [(PROMPT, "red", "navy"), ("a yellow star rotating on a white background", "yellow", "white")],
)
def test_the_mp4_has_the_colours_that_were_asked_for(tmp_path, wan, prompt, colour, background):
    frames = wan.render(_segment(prompt), Notes())
    file = tmp_path / "clip.mp4"
    encode_video(frames, file, fps=MODEL.fps, size=MODEL.output_size("480p"))

    seen = look_at(file)

    assert (seen.colour, seen.background) == (colour, background)


def test_the_engine_shows_what_diffusers_shows(wan):
    segment = _segment(PROMPT, frames=9, steps=3)

    found = wan.render(segment, Notes())
    expected = load_reference(DIRECTORY, **SETTINGS).render(segment, Notes())

    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 2


def test_the_same_seed_repeats_and_another_differs(wan):
    short = {"frames": 5, "steps": 4}
    first = wan.render(_segment(PROMPT, **short), Notes())

    assert np.array_equal(wan.render(_segment(PROMPT, **short), Notes()), first)
    assert not np.array_equal(wan.render(_segment(PROMPT, seed=2, **short), Notes()), first)


def test_unknown_words_are_said_by_their_places_and_never_themselves(wan):
    watcher = Notes()

    wan.render(_segment("a shiny red circle on velvet", frames=1, steps=1), watcher)

    assert watcher.notes == ["this small model does not know 2 of the prompt's 6 words: 2, 6"]


def test_known_words_are_not_worth_a_line(wan):
    watcher = Notes()

    wan.render(_segment(PROMPT, frames=1, steps=1), watcher)

    assert watcher.notes == []
