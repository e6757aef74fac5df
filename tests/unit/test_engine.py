import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from services.gpu_worker.backends import wan as wan_backend
from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.demo_model import MARKER
from services.gpu_worker.engine.wan import load_wan
from services.gpu_worker.protocol import Load
from shared.catalog import Size, find_model
from shared.errors import InvalidRequest, ModelUnavailable

SEGMENT = Segment(
    prompt="a red circle moves left",
    negative_prompt="",
    seed=7,
    frames=17,
    size=Size(96, 64),
    steps=2,
    guidance_scale=5.0,
    flow_shift=3.0,
)


class Recorder:
    def __init__(self):
        self.texts = 0
        self.steps = []
        self.fractions = []

    def text_encoded(self):
        self.texts += 1

    def step_done(self, step, steps):
        self.steps.append((step, steps))

    def decoded(self, fraction):
        self.fractions.append(fraction)


class EnoughError(Exception):
    pass


class StopsAt(Recorder):
    """Raises when a text is read, a step is done, or that part of the frames is decoded."""

    def __init__(self, *, text=None, step=None, fraction=None):
        super().__init__()
        self._text, self._step, self._fraction = text, step, fraction

    def text_encoded(self):
        super().text_encoded()
        if self.texts == self._text:
            raise EnoughError

    def step_done(self, step, steps):
        super().step_done(step, steps)
        if step == self._step:
            raise EnoughError

    def decoded(self, fraction):
        super().decoded(fraction)
        if self._fraction and fraction >= self._fraction:
            raise EnoughError


def _load(model_dir, **changes):
    settings = {"device": "cpu", "dtype": "auto", "how_to_get": "Run `make it`."}
    return load_wan(model_dir, **(settings | changes))


@pytest.fixture(scope="module")
def wan(demo_model_dir):
    return _load(demo_model_dir)


@pytest.fixture(scope="module")
def reference(wan):
    return wan.render(SEGMENT, Recorder())


def test_frames_are_bytes_of_the_ordered_size_and_not_flat(reference):
    assert reference.dtype == np.uint8
    assert reference.shape == (17, 64, 96, 3)
    assert reference.std() > 10


def test_the_same_segment_gives_the_same_bytes(wan, reference):
    assert np.array_equal(wan.render(SEGMENT, Recorder()), reference)


def test_a_freshly_loaded_model_gives_the_same_bytes(demo_model_dir, reference):
    assert np.array_equal(_load(demo_model_dir).render(SEGMENT, Recorder()), reference)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "a blue square on a white background"},
        {"negative_prompt": "snow"},
        {"guidance_scale": 2.0},
        {"flow_shift": 8.0},
        {"steps": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_makes_another_clip(wan, reference, change):
    frames = wan.render(replace(SEGMENT, **change), Recorder())

    difference = np.abs(frames.astype(int) - reference.astype(int)).mean()
    assert difference > 2


def test_the_clip_moves(reference):
    assert np.abs(reference[-1].astype(int) - reference[0].astype(int)).mean() > 2


def test_what_is_drawn_is_smooth_and_not_static(reference):
    """Neighbouring pixels differ by far less than pixels far apart."""
    pixels = reference.astype(int)
    near = np.abs(np.diff(pixels, axis=2)).mean()
    far = np.abs(pixels[:, :, 32:] - pixels[:, :, :-32]).mean()
    assert near < far / 4


def test_every_step_and_every_decoded_piece_is_reported(wan):
    recorder = Recorder()

    wan.render(SEGMENT, recorder)

    assert recorder.steps == [(1, 2), (2, 2)]
    assert recorder.fractions == pytest.approx([1 / 5, 3 / 5, 1])


@pytest.mark.parametrize(
    ("stop", "steps"),
    [({"text": 1}, 0), ({"step": 1}, 1), ({"fraction": 0.5}, 2)],
    ids=["the reading of the prompt", "a step", "the decoding"],
)
def test_a_render_stopped_in_the_middle_does_not_spoil_the_next(wan, reference, stop, steps):
    watcher = StopsAt(**stop)

    with pytest.raises(EnoughError):
        wan.render(SEGMENT, watcher)

    assert len(watcher.steps) == steps
    assert 1.0 not in watcher.fractions
    assert np.array_equal(wan.render(SEGMENT, Recorder()), reference)


@pytest.mark.parametrize("frames", [0, 8, 10])
def test_a_frame_count_the_model_would_round_is_refused(wan, frames):
    with pytest.raises(InvalidRequest, match="a multiple of 4, plus one"):
        wan.render(replace(SEGMENT, frames=frames), Recorder())


def test_a_size_the_model_cannot_render_is_refused(wan):
    with pytest.raises(InvalidRequest, match="multiples of 16"):
        wan.render(replace(SEGMENT, size=Size(208, 120)), Recorder())


def test_a_missing_model_says_how_to_get_it_and_names_no_path(tmp_path):
    with pytest.raises(ModelUnavailable) as caught:
        _load(tmp_path / "nowhere")

    assert caught.value.message == "The model is not there. Run `make it`."


def test_a_model_that_lacks_a_part_says_which(demo_model_dir, tmp_path):
    shutil.copytree(demo_model_dir, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vae")

    with pytest.raises(ModelUnavailable) as caught:
        _load(tmp_path / "model")

    assert caught.value.message == "The model's vae is missing or incomplete. Run `make it`."


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "tokenizer/tokenizer.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("damage", ["gone", "cut short"])
def test_a_half_downloaded_model_is_unavailable(demo_model_dir, tmp_path, file, damage):
    shutil.copytree(demo_model_dir, tmp_path / "model")
    broken = tmp_path / "model" / file
    if damage == "gone":
        broken.unlink()
    else:
        broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])

    with pytest.raises(ModelUnavailable) as caught:
        _load(tmp_path / "model")

    assert "Run `make it`." in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_cuda_is_refused_where_there_is_none(demo_model_dir):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ModelUnavailable, match="no CUDA device"):
        _load(demo_model_dir, device="cuda")


def test_it_says_where_it_runs(wan):
    assert wan.device == "cpu"


FEW_STEPS = {"scheduler": "dmd", "timesteps": (1000, 522), "guidance_scale": 1.0}


@pytest.fixture(scope="module", params=["WanPipeline", "WanDMDPipeline"])
def trained(request, demo_model_dir, tmp_path_factory):
    """The demo model, but posing as a base or a distilled one; and the name it poses by."""
    directory = tmp_path_factory.mktemp("trained") / "model"
    shutil.copytree(demo_model_dir, directory)
    (directory / MARKER).unlink()
    index = (directory / "model_index.json").read_text()
    (directory / "model_index.json").write_text(index.replace("WanPipeline", request.param))
    return directory, request.param


def _load_for_preset(model_dir, preset):
    order = Load(model="wan2.1", model_dir=model_dir, device="cpu", dtype="auto", preset=preset)
    return wan_backend.load(find_model("wan2.1"), order, warn=pytest.fail)


def test_weights_the_preset_does_not_mean_are_refused_when_they_are_loaded(trained):
    directory, name = trained
    wrong = "fast" if name == "WanPipeline" else "reference"

    with pytest.raises(ModelUnavailable, match=r"the preset needs the .* ones\. Download "):
        _load_for_preset(directory, wrong)


def test_a_job_of_a_preset_the_weights_are_not_for_is_refused(trained):
    directory, name = trained
    changes = FEW_STEPS if name == "WanPipeline" else {}
    wan = _load(directory)

    with pytest.raises(ModelUnavailable, match="the preset needs"):
        wan.render(replace(SEGMENT, **changes), Recorder())
    wan.render(replace(SEGMENT, **({} if changes else FEW_STEPS)), Recorder())


@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_the_demo_model_may_be_sampled_any_way(demo_model_dir, preset):
    assert _load_for_preset(demo_model_dir, preset)


def test_a_tiny_decoder_that_is_not_there_is_not_replaced_by_another(wan):
    with pytest.raises(ModelUnavailable, match="no tiny decoder"):
        wan.render(replace(SEGMENT, decoder="tiny"), Recorder())
