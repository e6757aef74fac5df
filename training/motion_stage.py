"""Third stage: the decoder learns the frames between those that latents stand for."""

import random
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from torch.nn import Parameter

from training.checkpoints import Stage, generator_of
from training.drawing import coverage, paint
from training.frames_stage import learning_rate, weighted_error
from training.paths import behind, objects_of
from training.slices import SlicedConv, SlicedUpsample, decode_video, encode_frames
from training.split import training_scenes
from training.world import FRAMES, LATENT_STRIDE

_SIDE = 96
_BATCH = 2
_LATENT_FRAMES = 3
_RATE = 1e-3
_NOISE = 0.05


def train_motion(
    directory: Path,
    vae: AutoencoderKLWan,
    *,
    steps: int,
    seed: int,
    report: Callable[[str], None],
    save_every: int = 50,
) -> None:
    """``vae`` is trained on frames. What it knows of them stays as it is, and so do latents."""
    learned = learn_time_only(vae)
    optimizer = torch.optim.AdamW(
        learned, lr=_RATE, weight_decay=0.0, betas=(0.9, 0.99), fused=True
    )
    stage = Stage("motion", directory, vae, optimizer, report)

    def learn() -> dict[str, float]:
        dice = random.Random(f"motion {seed} {stage.step}")
        crops = [_moving_crop(dice) for _ in range(_BATCH)]
        video = torch.stack([pictures for pictures, _ in crops]).to(vae.device)
        covered = torch.stack([mask for _, mask in crops]).to(vae.device)
        with torch.no_grad():
            seen = video[:, ::LATENT_STRIDE].flatten(0, 1)
            latents = encode_frames(vae, seen.to(memory_format=torch.channels_last))
            latents = latents.unflatten(0, (_BATCH, -1)).transpose(1, 2)
            generator = generator_of(seed, stage.step)
            noise = torch.randn(latents.shape, generator=generator)
            latents = latents + _NOISE * noise.to(vae.device)
        found = decode_video(vae, latents).transpose(1, 2).flatten(0, 1)
        error = weighted_error(found, video.flatten(0, 1), covered.flatten(0, 1))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage.step, steps, _RATE, warm_up=30)
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        return {"error": error.item()}

    stage.run(learn, steps=steps, save_every=save_every)


def learn_time_only(vae: AutoencoderKLWan) -> list[Parameter]:
    """What will change: how the decoder's coarse layers look back, and what doubles the frames.

    Its fine layers do not look back: that is costly, and the coarse ones do.
    """
    vae.requires_grad_(False)
    decoder = vae.decoder
    fine = {*decoder.up_blocks[-1].modules(), decoder.conv_out}
    doubling = {each.time_conv for each in decoder.modules() if isinstance(each, SlicedUpsample)}
    learned = []
    for conv in decoder.modules():
        if not isinstance(conv, SlicedConv) or conv.weight.shape[2] == 1:
            continue
        conv.sees_time = conv not in fine
        if conv.sees_time:
            learned.append(conv.weight.requires_grad_())
            if conv not in doubling:
                conv.weight.register_hook(_past_only)
    return learned


def _past_only(gradient: Tensor) -> Tensor:
    """Of a kernel's slices of time the last is the present: it was learned from single frames."""
    past = gradient.clone()
    past[:, :, -1] = 0
    return past


def _moving_crop(dice: random.Random) -> tuple[Tensor, Tensor]:
    """(frames, 3, side, side) of -1 to 1 and (frames, side, side): a part of a clip, near its object."""
    scene = dice.choice(training_scenes())
    count = (_LATENT_FRAMES - 1) * LATENT_STRIDE + 1
    first = dice.randrange(0, FRAMES - count + 1)
    objects = objects_of(scene, range(first, first + count))
    middle = count // 2
    reach = 0.5 * _SIDE
    left = float(objects.x[middle]) - reach + dice.uniform(-reach, reach)
    top = float(objects.y[middle]) - reach + dice.uniform(-reach, reach)
    pixels = torch.arange(_SIDE, dtype=torch.float32)
    covered = coverage(objects, (pixels + left).expand(count, -1), (pixels + top).expand(count, -1))
    return paint(behind(scene, count), objects.colour, covered) * 2 - 1, covered
