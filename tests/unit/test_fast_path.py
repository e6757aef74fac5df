"""The fast path is held against diffusers' own pipeline: same weights, same seed, same steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.checkpoint import Checkpoint
from services.gpu_worker.engine.decode import Decoder, DecoderConfig, prepare
from services.gpu_worker.engine.denoise import Denoiser
from services.gpu_worker.engine.model import filled, unfilled
from services.gpu_worker.engine.reference import Reference, load_pipeline, load_reference
from services.gpu_worker.engine.schedulers import FewStep
from services.gpu_worker.engine.text import TOKENS_MAX, TextEncoder
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig, fuse
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import Size
from shared.errors import InvalidRequest

# How far float32 sums in another order may lie apart, and what of it may be seen.
TEXT_TOLERANCE = 1e-5  # of embeddings around 1
LATENT_TOLERANCE = 1e-3  # of latents around 10
FRAME_TOLERANCE_LEVELS = 1  # of 255, and that in less than one number of a thousand

SEGMENT = Segment(
    prompt="a red circle moves left",
    negative_prompt="snow on a blue square",
    seed=3,
    frames=9,
    size=Size(96, 64),
    steps=2,
    guidance_scale=5.0,
    flow_shift=3.0,
)
LONG_PROMPT = "a red circle moves left and " * 120

CASES = [
    {},
    {"frames": 1},
    {"frames": 5},
    {"frames": 21, "steps": 1},
    {"size": Size(112, 48), "steps": 5},
    {"size": Size(208, 128)},
    {"size": Size(416, 240), "frames": 5, "steps": 1},
    {"guidance_scale": 1.0},
    {"guidance_scale": 0.0},
    {"guidance_scale": 1.5, "flow_shift": 8.0},
    {"negative_prompt": ""},
    {"prompt": ""},
    {"prompt": "  a&nbsp;red \n circle "},
    {"prompt": LONG_PROMPT},
    {"prompt": LONG_PROMPT, "negative_prompt": LONG_PROMPT},
]


class Quiet:
    def text_encoded(self):
        pass

    def step_done(self, step, steps):
        pass

    def decoded(self, fraction):
        pass


class CountsTexts(Quiet):
    def __init__(self):
        self.texts = 0

    def text_encoded(self):
        self.texts += 1


class EnoughError(Exception):
    pass


class StopsAfterTheFirstPiece(Quiet):
    def decoded(self, fraction):  # noqa: ARG002 - the watcher's signature
        raise EnoughError


def _name(case):
    return ", ".join(f"{key}={str(value)[:24]!r}" for key, value in case.items()) or "plain"


def _settings(changes):
    return {"device": "cpu", "dtype": "auto", "how_to_get": ""} | changes


@pytest.fixture(scope="module")
def checkpoint(demo_model_dir):
    return Checkpoint(demo_model_dir, how_to_get="")


@pytest.fixture(scope="module")
def pipeline(checkpoint):
    return load_pipeline(checkpoint, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def model(checkpoint):
    return checkpoint.load(device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def wan(demo_model_dir):
    return load_wan(demo_model_dir, **_settings({}))


@pytest.fixture(scope="module")
def reference(demo_model_dir):
    return load_reference(demo_model_dir, **_settings({}))


def _assert_looks_the_same(frames, expected):
    assert frames.shape == expected.shape
    levels = np.abs(frames.astype(int) - expected.astype(int))
    assert levels.max() <= FRAME_TOLERANCE_LEVELS
    assert (levels > 0).mean() < 1e-3


def test_the_reference_is_plain_diffusers_to_the_byte(demo_model_dir, reference):
    plain = WanPipeline.from_pretrained(demo_model_dir, local_files_only=True)
    plain.set_progress_bar_config(disable=True)
    frames = plain(
        prompt=SEGMENT.prompt,
        negative_prompt=SEGMENT.negative_prompt,
        height=SEGMENT.size.height,
        width=SEGMENT.size.width,
        num_frames=SEGMENT.frames,
        num_inference_steps=SEGMENT.steps,
        guidance_scale=SEGMENT.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(SEGMENT.seed),
    ).frames[0]

    expected = (frames * 255).round().astype(np.uint8)
    assert np.array_equal(reference.render(SEGMENT, Quiet()), expected)


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_every_clip_looks_as_diffusers_renders_it(wan, reference, case):
    segment = replace(SEGMENT, **case)

    frames = wan.render(segment, Quiet())

    _assert_looks_the_same(frames, reference.render(segment, Quiet()))


@pytest.mark.parametrize(
    "prompt",
    ["", "a red circle", "zyx &amp; more", LONG_PROMPT],
    ids=["empty", "short", "spelled", "cut off"],
)
def test_a_prompt_is_read_as_diffusers_reads_it(pipeline, model, prompt):
    with torch.inference_mode():
        expected, _ = pipeline.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=TOKENS_MAX
        )
        found = TextEncoder(model.tokenizer, model.text_encoder).encode(prompt)

    length = found.shape[1]
    assert torch.allclose(found, expected[:, :length], atol=TEXT_TOLERANCE, rtol=0)
    assert not expected[:, length:].any()  # the rest is padding


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_latents_are_those_of_diffusers(pipeline, model, case):
    segment = replace(SEGMENT, **case)
    text = TextEncoder(model.tokenizer, model.text_encoder)
    prompts = [segment.prompt, segment.negative_prompt][: 2 if segment.guidance_scale > 1 else 1]

    with torch.inference_mode():
        expected = Reference(pipeline).denoise(segment, Quiet())
        embeddings = [text.encode(prompt) for prompt in prompts]
        found = Denoiser(model).denoise(segment, embeddings, Quiet().step_done)

    assert torch.allclose(found, expected, atol=LATENT_TOLERANCE, rtol=0)


DMD = {
    "scheduler": "dmd",
    "timesteps": (1000, 757, 522),
    "steps": 3,
    "guidance_scale": 1.0,
    "flow_shift": 8.0,
}


def _predict(pipeline, latents, step, prompt):
    """diffusers' transformer, asked under one prompt."""
    embedding, _ = pipeline.encode_prompt(
        prompt, do_classifier_free_guidance=False, max_sequence_length=TOKENS_MAX
    )
    return pipeline.transformer(latents, step.expand(1), embedding, return_dict=False)[0]


def _first_noise(segment):
    size, generator = segment.size, torch.Generator().manual_seed(segment.seed)
    shape = (1, 8, (segment.frames - 1) // 4 + 1, size.height // 8, size.width // 8)
    return torch.randn(shape, generator=generator)


def _denoised(model, segment):
    prompts = [segment.prompt, segment.negative_prompt][: 2 if segment.steps_with_guidance else 1]
    text = TextEncoder(model.tokenizer, model.text_encoder)
    embeddings = [text.encode(prompt) for prompt in prompts]
    return Denoiser(model).denoise(segment, embeddings, Quiet().step_done)


@pytest.mark.parametrize("size", [Size(96, 64), Size(416, 240)], ids=str)
@pytest.mark.parametrize("guided_steps", [0, 1, 3, 4, 9])
def test_only_the_first_steps_are_guided(pipeline, model, guided_steps, size):
    segment = replace(SEGMENT, steps=4, guided_steps=guided_steps, size=size, frames=5)
    scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=3.0)
    scheduler.set_timesteps(4)
    expected = _first_noise(segment)

    with torch.inference_mode():
        for index, step in enumerate(scheduler.timesteps):
            flow = _predict(pipeline, expected, step, segment.prompt)
            if index < guided_steps:
                unwanted = _predict(pipeline, expected, step, segment.negative_prompt)
                flow = unwanted + segment.guidance_scale * (flow - unwanted)
            expected = scheduler.step(flow, step, expected, return_dict=False)[0]
        found = _denoised(model, segment)

    assert torch.allclose(found, expected, atol=LATENT_TOLERANCE, rtol=0)


def test_few_steps_are_those_of_the_distilled_sampler(pipeline, model):
    segment = replace(SEGMENT, **DMD)
    table = FlowMatchEulerDiscreteScheduler(shift=8.0)
    noises = FewStep(timesteps=(), flow_shift=8.0, seed=segment.seed)._generator
    expected = _first_noise(segment)

    with torch.inference_mode():
        for step in torch.tensor(segment.timesteps):
            sigma = table.sigmas[(table.timesteps - step).abs().argmin()]
            if step < 1000:
                fresh = torch.randn(expected.shape, generator=noises)
                expected = (1 - sigma) * expected + sigma * fresh
            expected = expected - sigma * _predict(pipeline, expected, step, segment.prompt)
        found = _denoised(model, segment)

    assert torch.allclose(found, expected, atol=LATENT_TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    "change", [DMD, {"steps": 4, "guided_steps": 2}], ids=["few steps", "guided at first"]
)
def test_whatever_the_sampler_the_same_segment_gives_the_same_bytes(wan, change):
    segment = replace(SEGMENT, **change)
    first = wan.render(segment, Quiet())

    wan.render(replace(segment, seed=4, prompt="a yellow triangle"), Quiet())
    wan.render(SEGMENT, Quiet())

    assert np.array_equal(wan.render(segment, Quiet()), first)
    assert not np.array_equal(wan.render(replace(segment, seed=4), Quiet()), first)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (DMD, "scheduler dmd"),
        ({"guided_steps": 1}, "some of the steps"),
        ({"decoder": "tiny"}, "tiny decoder"),
    ],
)
def test_the_reference_refuses_what_diffusers_cannot_do(pipeline, change, problem):
    with pytest.raises(InvalidRequest, match=problem):
        Reference(pipeline).denoise(replace(SEGMENT, **change), Quiet())


def test_the_reference_can_do_without_guidance(reference):
    without = reference.render(replace(SEGMENT, guided_steps=0), Quiet())

    assert np.array_equal(without, reference.render(replace(SEGMENT, guidance_scale=1.0), Quiet()))


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        ({"guidance_scale": 1.0}, 1),
        ({"guidance_scale": 1.1}, 2),
        ({"guided_steps": 1}, 2),
        ({"guided_steps": 0}, 1),
        (DMD, 1),
    ],
)
def test_the_negative_prompt_is_read_only_where_it_guides(wan, change, texts):
    watcher = CountsTexts()

    wan.render(replace(SEGMENT, **change), watcher)

    assert watcher.texts == texts


def test_after_other_clips_and_a_stopped_one_the_same_segment_gives_the_same_bytes(wan):
    first = wan.render(SEGMENT, Quiet())

    wan.render(replace(SEGMENT, prompt="a yellow triangle", frames=5, size=Size(128, 64)), Quiet())
    wan.render(replace(SEGMENT, guidance_scale=1.0, steps=3), Quiet())
    with pytest.raises(EnoughError):
        wan.render(replace(SEGMENT, seed=9), StopsAfterTheFirstPiece())

    assert np.array_equal(wan.render(SEGMENT, Quiet()), first)


def test_a_prompt_that_was_forgotten_is_read_anew_to_the_same_embedding(model):
    with torch.inference_mode():
        text = TextEncoder(model.tokenizer, model.text_encoder)
        first = text.encode("a red circle").clone()
        for number in range(40):
            text.encode(f"circle {number}")

        assert torch.equal(text.encode("a red circle"), first)


def _transformer_of(model):
    transformer = unfilled(lambda: Transformer(TransformerConfig.from_config(model.config)))
    return filled(transformer, fuse(model.state_dict()))


def _decoder_of(vae):
    decoder = unfilled(lambda: Decoder(DecoderConfig.from_config(vae.config)))
    return filled(decoder, prepare(decoder, vae.state_dict()))


@pytest.fixture
def torch_seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _shake(module):
    """Weights far from the tidy ones of a fresh or a demo model: biases, gains of either sign."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim < 2 or parameter.numel() == parameter.shape[0]:
                parameter.normal_(0.3, 0.5)
    return module.eval()


def test_a_transformer_with_the_real_heads_predicts_what_diffusers_predicts(torch_seed):
    model = _shake(
        WanTransformer3DModel(
            num_attention_heads=3,
            attention_head_dim=128,
            text_dim=48,
            freq_dim=64,
            ffn_dim=320,
            num_layers=3,
        )
    )
    latents, step = torch.randn(1, 16, 3, 8, 14), torch.tensor(731)
    embeddings = [torch.randn(1, length, 48) for length in (5, TOKENS_MAX)]
    padded = [torch.nn.functional.pad(e, (0, 0, 0, TOKENS_MAX - e.shape[1])) for e in embeddings]

    with torch.inference_mode():
        fast = _transformer_of(model)
        found = fast(latents, step, fast.read(embeddings), fast.positions(latents))
        expected = torch.cat(
            [model(latents, step.expand(1), text, return_dict=False)[0] for text in padded]
        )

    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_gates_of_a_sparse_attention_are_left_out(pipeline):
    weights = pipeline.transformer.state_dict()
    gate = {"blocks.0.attn1.to_gate_compress.weight": torch.zeros(2, 2)}

    assert fuse(weights | gate).keys() == fuse(weights).keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16], ids=["bfloat16"])
def test_in_half_precision_the_prediction_is_that_of_diffusers_too(torch_seed, dtype):
    model = _shake(
        WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=64,
            text_dim=48,
            freq_dim=64,
            ffn_dim=128,
            num_layers=2,
        )
    )
    for name, parameter in model.named_parameters():
        # What diffusers keeps in float32 when it loads a model in half precision.
        if not any(kept in name for kept in model._keep_in_fp32_modules):
            parameter.data = parameter.data.to(dtype)
    latents, step = torch.randn(1, 16, 2, 8, 8), torch.tensor(500)
    embedding = torch.randn(1, 7, 48).to(dtype)
    padded = torch.nn.functional.pad(embedding, (0, 0, 0, TOKENS_MAX - 7))

    with torch.inference_mode():
        fast = _transformer_of(model)
        found = fast(latents, step, fast.read([embedding]), fast.positions(latents))
        expected = model(latents.to(dtype), step.expand(1), padded, return_dict=False)[0]

    assert found.dtype == dtype
    spread = expected.float().std()
    assert (found.float() - expected.float()).abs().max() < 0.05 * spread


@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize(
    "shape",
    [
        {"base_dim": 16, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]},
        {"base_dim": 8, "dim_mult": [1, 2], "temperal_downsample": [True], "num_res_blocks": 1},
    ],
    ids=["the real one's shape", "a shallow one"],
)
def test_a_decoder_with_any_weights_shows_what_diffusers_shows(torch_seed, shape, frames):
    vae = _shake(AutoencoderKLWan(z_dim=16, **shape))
    latents = torch.randn(1, 16, frames, 6, 8)
    spread = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)

    with torch.inference_mode():
        found = _decoder_of(vae).decode(latents, lambda _: None)
        expected = vae.decode(latents * spread + mean).sample

    levels = expected[0].add(1).mul(127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
    assert levels.std() > 10
    _assert_looks_the_same(found, levels)
