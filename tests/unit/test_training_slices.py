"""The autoencoder that is trained slice by slice is diffusers' own."""

import pytest
import torch

from training.first_weights import begin_with_colours
from training.motion_stage import learn_time_only
from training.network import LATENT_CHANNELS, new_vae
from training.slices import decode_video, encode_frames, forget_time, slice_by_slice


@pytest.fixture
def pair():
    """The same weights twice: in diffusers' layers, and in those that are trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = new_vae()
    # As the trained one has it: attention adds nothing.
    for block in (vae.encoder.mid_block, vae.decoder.mid_block):
        torch.nn.init.zeros_(block.attentions[0].proj.weight)
        torch.nn.init.zeros_(block.attentions[0].proj.bias)
    sliced = new_vae()
    sliced.load_state_dict(vae.state_dict())
    return vae, slice_by_slice(sliced)


def _random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_video_decodes_to_what_diffusers_decodes_it_to(pair):
    theirs, sliced = pair
    latents = _random(1, LATENT_CHANNELS, 4, 3, 4)

    expected = theirs.decode(latents).sample

    assert torch.allclose(decode_video(sliced, latents).clamp(-1, 1), expected, atol=1e-5)


@torch.no_grad()
def test_each_latent_frame_is_that_of_one_frame_alone(pair):
    theirs, sliced = pair
    forget_time(theirs)
    sliced.load_state_dict(theirs.state_dict())
    video = _random(1, 3, 9, 48, 64).clamp(-1, 1)

    expected = theirs.encode(video).latent_dist.mean[0].transpose(0, 1)

    assert torch.allclose(encode_frames(sliced, video[0].transpose(0, 1)[::4]), expected, atol=1e-5)


def test_learning_time_leaves_what_is_known_of_frames():
    vae = new_vae()
    begin_with_colours(vae, spread=0.1)
    vae = slice_by_slice(vae)
    latents = _random(1, LATENT_CHANNELS, 3, 2, 2)
    before = decode_video(vae, latents[:, :, :1]).detach()
    later = decode_video(vae, latents).detach()
    learned = learn_time_only(vae)

    decode_video(vae, latents).square().mean().backward()
    with torch.no_grad():
        for weight in learned:
            weight.sub_(weight.grad)

    assert torch.equal(decode_video(vae, latents[:, :, :1]), before)
    assert not torch.allclose(decode_video(vae, latents), later)
