"""The text encoder is held against transformers' own: same weights, same tokens."""

import json
from copy import deepcopy

import pytest
import torch
from transformers import UMT5Config as TheirConfig
from transformers import UMT5EncoderModel

from services.gpu_worker.engine.umt5 import UMT5Config, UMT5Encoder
from shared.errors import ModelUnavailable

TOLERANCE = 1e-5  # of states around 1
LENGTHS = [1, 2, 17, 130, 512]  # beyond 128 tokens, distances are no longer told apart

SIZES = {"vocab_size": 300, "d_model": 48, "d_kv": 24, "d_ff": 80, "num_layers": 3, "num_heads": 3}
OTHER_BUCKETS = {
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 40,
    "layer_norm_epsilon": 1e-3,
}


def _ours(theirs, dtype=torch.float32):
    """An encoder with the weights of transformers' model, made without memory of its own."""
    with torch.device("meta"):
        encoder = UMT5Encoder(UMT5Config.from_config(theirs.config.to_dict()))
    encoder.load_state_dict(theirs.state_dict(), assign=True)
    assert encoder.shared.weight.dtype == dtype
    return encoder.eval()


def _theirs(config):
    """Random weights, and everything that could be forgotten is far from where it starts."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = UMT5EncoderModel(TheirConfig(**config)).eval()
        for name, parameter in model.named_parameters():
            spread = 0.4 if parameter.ndim == 1 else 1.0
            parameter.normal_(1.0 if "layer_norm" in name else 0.0, spread)
            if parameter.ndim == 2 and "bias" not in name and "shared" not in name:
                parameter.mul_(parameter.shape[1] ** -0.5)
            if name.endswith((".q.weight", ".k.weight")):
                parameter.mul_(0.5)
    return model


def _tokens(length, vocabulary):
    generator = torch.Generator().manual_seed(length)
    return torch.randint(vocabulary, (1, length), generator=generator)


@pytest.fixture(scope="module")
def demo(demo_model_dir):
    return UMT5EncoderModel.from_pretrained(demo_model_dir, subfolder="text_encoder").eval()


@pytest.fixture(scope="module", params=[SIZES, SIZES | OTHER_BUCKETS], ids=["plain", "buckets"])
def random_model(request):
    return _theirs(request.param)


def _assert_same_states(theirs, length):
    tokens = _tokens(length, theirs.config.vocab_size)
    with torch.inference_mode():
        found = _ours(theirs)(tokens)
        expected = theirs(tokens, torch.ones_like(tokens)).last_hidden_state
    assert found.shape == (1, length, theirs.config.d_model)
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_demo_model_s_encoder_reads_as_transformers_reads(demo, length):
    _assert_same_states(demo, length)


@pytest.mark.parametrize("length", LENGTHS)
def test_an_encoder_with_any_weights_reads_as_transformers_reads(random_model, length):
    _assert_same_states(random_model, length)


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.bfloat16, ()), (torch.float16, (".wo.",))], ids=["bf16", "fp16"]
)
def test_in_half_precision_the_states_are_as_near_the_true_ones_as_those_of_transformers(
    dtype, kept
):
    theirs = _theirs(SIZES)
    for name, parameter in theirs.named_parameters():
        # What transformers keeps in float32 when it loads a model in float16.
        if not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)
    exact = deepcopy(theirs).float()
    tokens = _tokens(40, theirs.config.vocab_size)

    with torch.inference_mode():
        found = _ours(theirs, dtype)(tokens)
        expected = theirs(tokens, torch.ones_like(tokens)).last_hidden_state
        true = exact(tokens, torch.ones_like(tokens)).last_hidden_state

    assert found.dtype == expected.dtype == dtype
    # Which way a number is rounded is up to the CPU; how far it gets from the true one is up to the code.
    assert _distance(found, true) < 1.1 * _distance(expected, true)


def _distance(states, true):
    return (states.float() - true).square().mean().sqrt()


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_embedding_is_found_under_either_of_its_names(demo, name):
    weights = demo.state_dict()
    embedding = weights["shared.weight"]
    for tied in ("shared.weight", "encoder.embed_tokens.weight"):
        weights.pop(tied, None)

    with torch.device("meta"):
        encoder = UMT5Encoder(UMT5Config.from_config(demo.config.to_dict()))
    encoder.load_state_dict(weights | {name: embedding}, assign=True)

    assert encoder.shared.weight.data_ptr() == embedding.data_ptr()


def test_its_weights_have_the_names_of_the_weight_file(demo):
    expected = {name: tensor.shape for name, tensor in demo.state_dict().items()}
    expected.pop("encoder.embed_tokens.weight", None)

    assert {name: tensor.shape for name, tensor in _ours(demo).state_dict().items()} == expected


def test_the_config_file_is_enough_to_build_it(demo_model_dir, demo):
    text = (demo_model_dir / "text_encoder" / "config.json").read_text(encoding="utf-8")

    config = UMT5Config.from_config(json.loads(text))

    assert config == UMT5Config.from_config(demo.config.to_dict())


@pytest.mark.parametrize(
    "config",
    [SIZES | {"feed_forward_proj": "relu"}, {"vocab_size": 300}],
    ids=["ungated", "incomplete"],
)
def test_another_model_s_config_is_refused(config):
    with pytest.raises(ModelUnavailable):
        UMT5Config.from_config(config)
