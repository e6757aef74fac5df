"""Segments that begin and end with pictures are held against diffusers' own pipelines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanVACEPipeline,
)
from PIL import Image

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine import image_to_video
from services.gpu_worker.engine.companion_files import CompanionFiles
from services.gpu_worker.engine.image_to_video import encode_picture
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import Size
from shared.errors import InvalidRequest, ModelUnavailable
from tests.unit.companions import KINDS, make_companion

# How far float32 sums in another order may lie apart: our text encoder is not diffusers'.
LATENT_TOLERANCE = 1e-3  # of latents around 3

DEMO_LATENTS = ((0.25, -0.25), (1.0, 2.0))  # mean and deviation of every other channel
SIZE = Size(64, 32)
ONE_ONLY = "image to video"  # cannot be told what a segment ends with
HOLDS = "text to video"  # cannot be told anything
TWO_ONLY = "first and last frame"  # has to be told


def _picture(seed):
    """Soft, as what the demo model makes: a few colours that blend."""
    colors = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), np.uint8)
    return np.asarray(Image.fromarray(colors).resize((SIZE.width, SIZE.height), Image.BILINEAR))


FIRST, LAST = _picture(1), _picture(2)
SEGMENT = Segment(
    prompt="a red circle moves left",
    negative_prompt="snow on a blue square",
    seed=3,
    frames=9,
    size=SIZE,
    steps=3,
    guidance_scale=5.0,
    flow_shift=4.0,
    first_frame=FIRST,
)


class Recorder:
    def __init__(self, *, stop_at=None):
        self.told = []
        self._stop_at = stop_at

    def text_encoded(self):
        self._tell("text")

    def step_done(self, step, steps):
        self._tell(f"step {step} of {steps}")

    def decoded(self, fraction):  # noqa: ARG002 - the watcher's signature
        self._tell("frames")

    def _tell(self, what):
        self.told.append(what)
        if what == self._stop_at:
            raise EnoughError


class EnoughError(Exception):
    pass


@pytest.fixture(scope="module")
def directories(demo_model_dir, tmp_path_factory):
    made = {}

    def directory(kind):
        if kind not in made:
            target = tmp_path_factory.mktemp("companion") / "model"
            made[kind] = make_companion(kind, demo_model_dir, target)
        return made[kind]

    return directory


@pytest.fixture(scope="module")
def text_pipeline(demo_model_dir):
    """For diffusers' own way to read a prompt."""
    return WanPipeline.from_pretrained(demo_model_dir, local_files_only=True)


@pytest.fixture(scope="module")
def load(demo_model_dir, directories):
    loaded = {}

    def wan(kind):
        if kind not in loaded:
            loaded[kind] = load_wan(
                demo_model_dir,
                device="cpu",
                dtype="auto",
                how_to_get="",
                companion=CompanionFiles(directories(kind), holds_first_frame=kind == HOLDS),
            )
        return loaded[kind]

    return wan


def _segment(kind):
    return replace(SEGMENT, last_frame=LAST) if kind == TWO_ONLY else SEGMENT


def _denoised(wan, segment):
    return wan.generate(segment, Recorder())._latents


def _encoded(wan, picture):
    with torch.inference_mode():
        return encode_picture(_pipeline(wan).vae, picture)


def _pipeline(wan):
    return wan._image_to_video._pipeline


class _Spied:
    """What a companion's transformer is called with, while the context lasts."""

    def __init__(self, wan):
        self._transformer = _pipeline(wan).transformer
        self.calls = []

    def __enter__(self):
        def note(_, __, arguments):
            self.calls.append(dict(arguments))

        self._hook = self._transformer.register_forward_pre_hook(note, with_kwargs=True)
        return self.calls

    def __exit__(self, *_):
        self._hook.remove()


def _pictures_for(kind, segment):
    """As diffusers' own examples hand them to a pipeline."""
    first, last = (
        None if picture is None else Image.fromarray(picture)
        for picture in (segment.first_frame, segment.last_frame)
    )
    if kind == HOLDS:
        return {}
    if not kind.startswith("vace"):
        return {"image": first} | ({"last_image": last} if last else {})
    count = segment.frames
    video, mask = np.full((count, 32, 64, 3), 127.5), np.full((count, 32, 64, 3), 255.0)
    for place, picture in ((0, first), (-1, last)):
        if picture is not None:
            video[place], mask[place] = np.asarray(picture), 0
    return {"video": video[None] / 255, "mask": mask[None] / 255}


def _plainly_denoised(kind, directory, text, segment):
    """By diffusers' pipeline with everything that belongs to it, and our numbers."""
    pipeline_class = WanVACEPipeline if kind.startswith("vace") else WanImageToVideoPipeline
    if kind == HOLDS:
        pipeline_class = WanPipeline
    pipeline = pipeline_class.from_pretrained(
        directory,
        local_files_only=True,
        text_encoder=text.text_encoder,
        tokenizer=text.tokenizer,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=segment.flow_shift
    )
    return pipeline(
        **_pictures_for(kind, segment),
        prompt=segment.prompt,
        negative_prompt=segment.negative_prompt,
        height=segment.size.height,
        width=segment.size.width,
        num_frames=segment.frames,
        num_inference_steps=segment.steps,
        guidance_scale=segment.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(segment.seed),
        output_type="latent",
    ).frames


# Plain diffusers cannot use the patches of the demo's own autoencoder with VACE.
@pytest.mark.parametrize(
    ("kind", "last_frame"),
    [
        (kind, last_frame)
        for kind in KINDS[1:]
        for last_frame in (None, LAST)
        if (kind, last_frame is None) not in ((ONE_ONLY, False), (HOLDS, False), (TWO_ONLY, True))
    ],
    ids=lambda part: part if isinstance(part, str) else "to a picture" if part is not None else "",
)
def test_but_for_the_seam_the_latents_are_those_of_diffusers(
    load, directories, text_pipeline, kind, last_frame
):
    segment = replace(SEGMENT, last_frame=last_frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_to_video._Seam, "hold", lambda _, latents, __: latents)
        found = _denoised(load(kind), segment)

    expected = _plainly_denoised(kind, directories(kind), text_pipeline, segment)
    assert torch.allclose(found, expected, atol=LATENT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("prompt", ["", "a red circle", "a red circle and " * 200])
def test_the_transformer_reads_a_prompt_as_diffusers_encodes_it(load, text_pipeline, prompt):
    wan = load("vace")
    with _Spied(wan) as calls:
        _denoised(wan, replace(SEGMENT, prompt=prompt, steps=1))

    expected = text_pipeline.encode_prompt(
        prompt, negative_prompt=SEGMENT.negative_prompt, max_sequence_length=512
    )
    for call, embedding in zip(calls, expected, strict=True):
        assert torch.allclose(call["encoder_hidden_states"], embedding, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_segment_begins_with_what_is_left_of_its_picture_when_encoded(load, kind):
    wan = load(kind)

    frames = wan.render(_segment(kind), Recorder())

    encoded = _encoded(wan, FIRST)
    alone = wan._renderer.decode(encoded, "full", Recorder())
    assert np.array_equal(frames[0], alone[0])
    assert not np.array_equal(frames[1], frames[0])


@pytest.mark.parametrize("kind", KINDS)
def test_at_every_step_the_first_frame_is_on_its_way_from_the_noise_to_the_picture(load, kind):
    wan = load(kind)
    with _Spied(wan) as calls:
        _denoised(wan, replace(_segment(kind), guidance_scale=1.0))

    scheduler = _pipeline(wan).scheduler
    noise = torch.randn((1, 8, 3, 4, 8), generator=torch.Generator().manual_seed(SEGMENT.seed))
    encoded = _encoded(wan, FIRST)
    seen = [call["hidden_states"][:, :8] for call in calls]
    assert torch.equal(seen[0], noise)
    for sigma, latents in zip(scheduler.sigmas[1:], seen[1:], strict=False):
        expected = (1 - sigma) * encoded + sigma * noise[:, :, :1]
        assert 0 < sigma < 1
        assert torch.allclose(latents[:, :, :1], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_another_picture_makes_another_clip(load, kind):
    wan = load(kind)

    segment = _segment(kind)

    one, other = (_denoised(wan, replace(segment, first_frame=p)) for p in (FIRST, LAST))

    # Not only where the picture is put back: what follows has seen it, too.
    assert (one - other)[:, :, 1:].abs().mean() > 0.01


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {ONE_ONLY, HOLDS}])
def test_another_end_makes_another_clip(load, kind):
    wan = load(kind)

    one, other = (_denoised(wan, replace(SEGMENT, last_frame=p)) for p in (FIRST, LAST))

    assert (one - other)[:, :, 1:].abs().max() > 1e-3


def test_vace_is_told_which_frames_to_keep(load):
    wan = load("vace, deeper")
    with _Spied(wan) as calls:
        _denoised(wan, replace(SEGMENT, last_frame=LAST, steps=1))

    condition = calls[0]["control_hidden_states"]
    kept, drawn = condition[:, :8], condition[:, 8:16]
    assert torch.allclose(kept[:, :, :1], _encoded(wan, FIRST), atol=1e-5, rtol=0)
    # Grey is nothing to it, as it is to VACE's authors: what is to be drawn has no colour at all.
    with torch.inference_mode():
        nothing = _pipeline(wan).vae.encode(torch.zeros(1, 3, 9, SIZE.height, SIZE.width))
    mean, std = torch.tensor(DEMO_LATENTS).repeat(1, 4).view(2, 1, 8, 1, 1, 1)
    assert torch.allclose(drawn, (nothing.latent_dist.mode() - mean) / std, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        ({}, 3 + 3),
        ({"guided_steps": 0}, 3),
        ({"guided_steps": 1}, 3 + 1),
        ({"guided_steps": 2}, 3 + 2),
        ({"guided_steps": 9}, 3 + 3),
        ({"guidance_scale": 1.0}, 3),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["vace", ONE_ONLY])
def test_only_the_first_steps_ask_what_the_negative_prompt_says(load, kind, change, calls):
    wan = load(kind)
    with _Spied(wan) as found:
        _denoised(wan, replace(SEGMENT, **change))

    assert len(found) == calls


def test_progress_is_told_as_it_is_made(load):
    recorder = Recorder()

    load("vace").render(SEGMENT, recorder)

    steps = ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
    assert recorder.told == ["text", "text", *steps, "frames", "frames"]


@pytest.mark.parametrize("moment", ["text", "step 1 of 3", "frames"])
def test_one_stopped_in_the_middle_does_not_spoil_the_next(load, moment):
    wan = load("vace")
    expected = wan.render(SEGMENT, Recorder())
    recorder = Recorder(stop_at=moment)

    with pytest.raises(EnoughError):
        wan.render(replace(SEGMENT, guided_steps=1), recorder)

    assert recorder.told[-1] == moment
    assert np.array_equal(wan.render(SEGMENT, Recorder()), expected)


@pytest.mark.parametrize("kind", ["vace", "first and last frame"])
def test_the_same_segment_gives_the_same_bytes_whatever_was_rendered_between(load, kind):
    wan = load(kind)
    segment = replace(SEGMENT, last_frame=LAST)
    first = wan.render(segment, Recorder())

    wan.render(replace(segment, guided_steps=1, flow_shift=8.0, seed=4), Recorder())
    wan.render(replace(segment, first_frame=None, last_frame=None), Recorder())

    assert np.array_equal(wan.render(segment, Recorder()), first)
    assert not np.array_equal(wan.render(replace(segment, seed=4), Recorder()), first)


@pytest.mark.parametrize("change", [{"flow_shift": 8.0}, {"prompt": "snow"}, {"steps": 4}], ids=str)
def test_every_setting_makes_another_clip(load, change):
    wan = load("vace")

    one, other = _denoised(wan, SEGMENT), _denoised(wan, replace(SEGMENT, **change))

    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("kind", "last_frame", "problem"),
    [(ONE_ONLY, LAST, "cannot be told"), (TWO_ONLY, None, "has to be told")],
)
def test_an_end_that_does_not_suit_the_companion_is_refused(load, kind, last_frame, problem):
    segment = replace(SEGMENT, last_frame=last_frame)

    with pytest.raises(ModelUnavailable, match=rf"{problem}.*VACE.*image_to_video in the conf"):
        load(kind).render(segment, Recorder())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"scheduler": "dmd", "timesteps": (1000, 757, 522)}, "preset reference or balanced"),
        ({"first_frame": FIRST[:, :48]}, "its size, 64x32"),
        ({"last_frame": LAST[:, :, :1]}, "its three colours"),
        ({"first_frame": FIRST / 255}, "in bytes"),
        ({"first_frame": None, "last_frame": LAST}, "begins with one, too"),
    ],
    ids=["few steps", "too narrow", "grey", "not bytes", "no beginning"],
)
def test_what_cannot_be_rendered_is_refused(load, change, problem):
    with pytest.raises(InvalidRequest, match=problem):
        load("vace").render(replace(SEGMENT, **change), Recorder())


def test_the_demo_s_next_segment_goes_on_where_the_last_one_ended(load):
    wan = load("vace")
    larger = replace(SEGMENT, size=Size(160, 96), frames=17, steps=4, flow_shift=3.0)
    before = wan.render(replace(larger, first_frame=None), Recorder()).astype(int)

    last = before[-1].astype(np.uint8)
    after = wan.render(replace(larger, first_frame=last, seed=9), Recorder()).astype(int)

    at_the_seam = np.abs(after[0] - before[-1]).mean()
    four_apart = np.abs(before[8:] - before[4:-4]).mean(axis=(1, 2, 3))
    assert at_the_seam < four_apart.min() / 3
    # What follows is as lively as what was before, and of its colours.
    assert after[8:].std() == pytest.approx(before[8:].std(), rel=0.3)
    assert np.abs(after[8:].mean((0, 1, 2)) - before[8:].mean((0, 1, 2))).max() < 20
