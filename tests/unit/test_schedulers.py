"""The samplers are held against diffusers' schedulers and against their formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from services.gpu_worker.backends.backend import Segment
from services.gpu_worker.engine.schedulers import (
    FewStep,
    UniPC,
    check_unipc_config,
    scheduler_for,
)
from shared.catalog import Size
from shared.errors import ModelUnavailable

WAN_CONFIG = {
    "_class_name": "UniPCMultistepScheduler",
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "solver_order": 2,
    "solver_type": "bh2",
}
STEPS = [1, 2, 3, 8, 20, 50]
SHIFTS = [1.0, 3.0, 5.0, 8.0]
SHAPE = (1, 4, 3, 5, 6)


def _flow(latents, step):
    """A prediction that depends on where it is asked, so that a wrong sample does not go unseen."""
    wave = torch.sin(3 * latents + step / 200)
    return wave + 0.3 * latents.flip(-1)


def _noise(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def _theirs(steps, flow_shift):
    scheduler = UniPCMultistepScheduler.from_config(WAN_CONFIG, flow_shift=flow_shift)
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("flow_shift", SHIFTS)
@pytest.mark.parametrize("steps", STEPS)
def test_unipc_goes_through_the_noise_levels_of_diffusers(steps, flow_shift):
    ours, theirs = UniPC(steps=steps, flow_shift=flow_shift), _theirs(steps, flow_shift)

    assert ours.timesteps.dtype == torch.int64
    assert torch.equal(ours.timesteps, theirs.timesteps)
    assert np.array_equal(ours.sigmas, theirs.sigmas.numpy())


@pytest.mark.parametrize("flow_shift", SHIFTS)
@pytest.mark.parametrize("steps", STEPS)
def test_unipc_takes_the_steps_of_diffusers(steps, flow_shift):
    ours, theirs = UniPC(steps=steps, flow_shift=flow_shift), _theirs(steps, flow_shift)
    found = expected = _noise()

    for step in theirs.timesteps:
        found = ours.step(_flow(found, step), found)
        expected = theirs.step(_flow(expected, step), step, expected, return_dict=False)[0]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)

    assert found.dtype == torch.float32


def test_unipc_keeps_float32_where_the_prediction_is_in_half_precision():
    scheduler = UniPC(steps=2, flow_shift=3.0)
    latents, prediction = _noise(), _noise(1).bfloat16()

    found = scheduler.step(prediction, latents)

    expected = UniPC(steps=2, flow_shift=3.0).step(prediction.float(), latents)
    assert torch.equal(found, expected)


def test_the_config_of_wan_is_supported():
    check_unipc_config(WAN_CONFIG)
    check_unipc_config(dict(UniPCMultistepScheduler.from_config(WAN_CONFIG).config))


@pytest.mark.parametrize(
    "change",
    [
        {"prediction_type": "epsilon"},
        {"use_flow_sigmas": False},
        {"solver_order": 3},
        {"solver_type": "bh1"},
        {"num_train_timesteps": 500},
        {"final_sigmas_type": "sigma_min"},
        {"lower_order_final": False},
        {"use_karras_sigmas": True},
        {"disable_corrector": [0]},
        {"_class_name": "FlowMatchEulerDiscreteScheduler"},
    ],
    ids=str,
)
def test_another_sampler_s_config_is_refused_by_name(change):
    (key,) = change
    with pytest.raises(ModelUnavailable, match=key):
        check_unipc_config(WAN_CONFIG | change)


@pytest.mark.parametrize("key", ["prediction_type", "use_flow_sigmas"])
def test_a_config_that_leaves_out_what_it_must_say_is_refused(key):
    with pytest.raises(ModelUnavailable, match=key):
        check_unipc_config({name: WAN_CONFIG[name] for name in WAN_CONFIG if name != key})


DISTILLED = {"timesteps": (1000, 757, 522), "flow_shift": 8.0}


def test_the_few_steps_take_the_nearest_of_the_trained_noise_levels():
    table = FlowMatchEulerDiscreteScheduler(shift=8.0)
    expected = [
        float(table.sigmas[(table.timesteps - timestep).abs().argmin()])
        for timestep in DISTILLED["timesteps"]
    ]

    scheduler = FewStep(**DISTILLED, seed=0)

    assert scheduler.timesteps.tolist() == [1000, 757, 522]
    assert scheduler.sigmas == expected
    assert expected == pytest.approx([1.0, 0.757, 0.522], abs=1e-3)


def test_a_few_step_is_the_clean_prediction_noised_again_but_for_the_last():
    scheduler = FewStep(**DISTILLED, seed=5)
    noises = FewStep(**DISTILLED, seed=5)._generator
    sigmas = scheduler.sigmas
    latents = _noise()

    for sigma, following in [(sigmas[0], sigmas[1]), (sigmas[1], sigmas[2]), (sigmas[2], None)]:
        prediction = _flow(latents, 100)
        clean = latents.double() - sigma * prediction.double()
        found = scheduler.step(prediction, latents)
        if following is None:
            expected = clean
        else:
            noise = torch.randn(SHAPE, generator=noises).double()
            expected = (1 - following) * clean + following * noise
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)
        latents = found


def _few_steps(seed):
    scheduler, latents = FewStep(**DISTILLED, seed=seed), _noise()
    for step in scheduler.timesteps:
        latents = scheduler.step(_flow(latents, step), latents)
    return latents


def test_a_seed_s_noise_is_its_own_whatever_else_draws_between():
    first = _few_steps(7)
    torch.randn(3)
    _few_steps(8)

    assert torch.equal(_few_steps(7), first)
    assert not torch.equal(_few_steps(8), first)


def test_the_noise_between_steps_is_not_the_first_noise_again():
    drawn = torch.randn(SHAPE, generator=FewStep(**DISTILLED, seed=3)._generator)

    assert not torch.equal(drawn, _noise(3))


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({"scheduler": "unipc", "steps": 2}, UniPC), ({"scheduler": "dmd", **DISTILLED}, FewStep)],
)
def test_the_preset_s_scheduler_is_taken(settings, kind):
    fields = {"steps": 3, "guidance_scale": 1.0, "flow_shift": 3.0} | settings
    segment = Segment(prompt="", negative_prompt="", seed=1, frames=5, size=Size(32, 16), **fields)

    scheduler = scheduler_for(segment, WAN_CONFIG)

    assert isinstance(scheduler, kind)
    assert len(scheduler.timesteps) == fields["steps"]


def test_a_distilled_model_may_have_another_sampler_s_config():
    fields = {"seed": 1, "frames": 5, "size": Size(32, 16), "steps": 3, "guidance_scale": 1.0}
    segment = Segment(prompt="", negative_prompt="", scheduler="dmd", **DISTILLED, **fields)

    assert isinstance(scheduler_for(segment, {"_class_name": "Other"}), FewStep)
    with pytest.raises(ModelUnavailable, match="use_flow_sigmas"):
        scheduler_for(replace(segment, scheduler="unipc"), {"_class_name": "Other"})
