"""A small random network stands in for the tiny decoder's real weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.backends.wan import load
from services.gpu_worker.engine import tiny_decoder
from services.gpu_worker.engine.tiny_decoder import TinyDecoder, load_tiny_decoder
from services.gpu_worker.engine.wan import load_wan
from services.gpu_worker.protocol import Load
from shared.catalog import Size, find_model
from shared.errors import ModelUnavailable

WIDTHS = (24, 16, 8, 8)
CHANNELS = 8  # as the demo model's latents
CPU = torch.device("cpu")

SEGMENT = Segment(
    prompt="a red circle moves left",
    negative_prompt="",
    seed=7,
    frames=9,
    size=Size(96, 64),
    steps=2,
    guidance_scale=1.0,
    flow_shift=3.0,
    decoder="tiny",
)


class Recorder:
    def __init__(self):
        self.fractions = []

    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        self.fractions.append(fraction)


def _weights(channels=CHANNELS):
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(2)
        decoder = TinyDecoder(channels, WIDTHS)
        for parameter in decoder.parameters():
            parameter.mul_(1.8)
        decoder.decoder[-1].bias.fill_(0.5)
    return {"encoder.0.weight": torch.zeros(4, 3, 3, 3), **decoder.state_dict()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "taew2_1.safetensors"
    save_file(_weights(), path)
    return path


@pytest.fixture(scope="module")
def decoder(file):
    return load_tiny_decoder(file, device=CPU, latent_channels=CHANNELS)


def _latents(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, CHANNELS, frames, 6, 10, generator=generator)


def _decode(decoder, latents, report=lambda _: None):
    with torch.inference_mode():
        return decoder.decode(latents, report)


def _by_the_book(weights, latents):
    """All frames at once, layer by layer as the file numbers them, the enlargement before growth."""

    def conv(pictures, name, **settings):
        bias = weights.get(f"decoder.{name}.bias")
        return nn.functional.conv2d(pictures, weights[f"decoder.{name}.weight"], bias, **settings)

    def remember(pictures, name):
        before = torch.cat([torch.zeros_like(pictures[:1]), pictures[:-1]])
        change = torch.cat([pictures, before], 1)
        for layer in (0, 2, 4):
            change = conv(change, f"{name}.conv.{layer}", padding=1)
            change = change.relu() if layer < 4 else change
        return (change + pictures).relu()

    pictures = latents[0].transpose(0, 1)
    pictures = conv(torch.tanh(pictures / 3) * 3, 1, padding=1).relu()
    for start in (3, 9, 15):
        for block in range(start, start + 3):
            pictures = remember(pictures, block)
        pictures = nn.Upsample(scale_factor=2)(pictures)
        width = pictures.shape[1]
        pictures = conv(pictures, f"{start + 4}.conv")
        pictures = pictures.reshape(-1, width, *pictures.shape[2:])
        pictures = conv(pictures, start + 5, padding=1)
    pictures = conv(pictures.relu(), 22, padding=1)[3:].clamp(0, 1)
    return pictures.mul(255).round().permute(0, 2, 3, 1).numpy().astype(np.uint8)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("piece", [1, 120, 10**6], ids=["one by one", "two", "all at once"])
def test_pieces_give_what_the_whole_gives(decoder, monkeypatch, frames, piece):
    monkeypatch.setattr(tiny_decoder, "_PIECE_LATENT_PIXELS", piece)
    latents = _latents(frames)

    found = _decode(decoder, latents)

    expected = _by_the_book(_weights(), latents)
    assert found.shape == expected.shape == (4 * (frames - 1) + 1, 48, 80, 3)
    assert expected.std() > 10
    levels = np.abs(found.astype(int) - expected.astype(int))
    assert levels.max() <= 1
    assert (levels > 0).mean() < 1e-2


def test_the_same_latents_give_the_same_bytes_whatever_was_decoded_between(decoder):
    first = _decode(decoder, _latents(3))
    _decode(decoder, _latents(2, seed=1))

    assert np.array_equal(_decode(decoder, _latents(3)), first)


def test_every_piece_is_reported_and_may_stop_the_decoding(decoder, monkeypatch):
    monkeypatch.setattr(tiny_decoder, "_PIECE_LATENT_PIXELS", 1)
    fractions = []
    first = _decode(decoder, _latents(4), fractions.append)
    assert fractions == [1 / 4, 2 / 4, 3 / 4, 1]

    with pytest.raises(ZeroDivisionError):
        _decode(decoder, _latents(4), lambda _: 1 / 0)
    assert np.array_equal(_decode(decoder, _latents(4)), first)


def test_a_pth_file_is_read_too(decoder, tmp_path):
    torch.save(_weights(), tmp_path / "taew2_1.pth")

    other = load_tiny_decoder(tmp_path / "taew2_1.pth", device=CPU, latent_channels=CHANNELS)

    assert np.array_equal(_decode(other, _latents(2)), _decode(decoder, _latents(2)))


def test_of_a_file_that_grows_by_more_frames_the_last_are_taken(decoder, tmp_path):
    weights = _weights()
    grow = weights["decoder.7.conv.weight"]
    weights["decoder.7.conv.weight"] = torch.cat([torch.ones_like(grow), grow])
    save_file(weights, tmp_path / "t.safetensors")

    other = load_tiny_decoder(tmp_path / "t.safetensors", device=CPU, latent_channels=CHANNELS)

    assert np.array_equal(_decode(other, _latents(2)), _decode(decoder, _latents(2)))


def _without(name):
    return {key: value for key, value in _weights().items() if key != name}


@pytest.mark.parametrize(
    "weights",
    [
        {"model.weight": torch.zeros(2)},
        _without("decoder.9.conv.2.bias"),
        _without("decoder.1.weight"),
        {**_weights(), "decoder.23.weight": torch.zeros(2)},
        {**_weights(), "decoder.22.weight": torch.zeros(12, 8, 3, 3)},
    ],
    ids=["no decoder", "a layer less", "no first layer", "a layer more", "patches"],
)
def test_another_model_s_weights_are_refused_with_what_to_get(tmp_path, weights):
    save_file(weights, tmp_path / "other.safetensors")

    with pytest.raises(ModelUnavailable, match=r"other\.safetensors is another.*taew2_1"):
        load_tiny_decoder(tmp_path / "other.safetensors", device=CPU, latent_channels=CHANNELS)


def test_a_decoder_of_other_latents_is_refused(file):
    with pytest.raises(ModelUnavailable, match="of 8 channels, and the model makes 16"):
        load_tiny_decoder(file, device=CPU, latent_channels=16)


@pytest.mark.parametrize("name", ["t.safetensors", "t.pth"])
@pytest.mark.parametrize("content", [None, b"", b"no weights at all"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelUnavailable, match=f"{name} cannot be read.*taew2_1"):
        load_tiny_decoder(tmp_path / name, device=CPU, latent_channels=CHANNELS)


def test_a_segment_is_decoded_by_the_decoder_it_names(demo_model_dir, file):
    wan = load_wan(demo_model_dir, device="cpu", dtype="auto", how_to_get="", tiny_decoder=file)
    tiny, full, watcher = SEGMENT, replace(SEGMENT, decoder="full"), Recorder()

    frames = wan.render(tiny, watcher)

    assert frames.shape == (9, 64, 96, 3)
    assert watcher.fractions[-1] == 1
    assert not np.array_equal(wan.render(full, Recorder()), frames)
    assert np.array_equal(wan.render(tiny, Recorder()), frames)


def test_a_preset_that_needs_a_tiny_decoder_names_the_key_where_none_is_configured(tmp_path):
    order = Load(model="wan2.1", model_dir=tmp_path, device="cpu", dtype="auto", preset="preview")

    with pytest.raises(ModelUnavailable, match=r"models\.wan2\.1\.tiny_decoder"):
        load(find_model("wan2.1"), order, warn=pytest.fail)
