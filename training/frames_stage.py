"""First stage: the autoencoder learns single frames."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from training.checkpoints import Stage, generator_of
from training.first_weights import begin_with_colours
from training.network import new_vae
from training.pictures import draw_crops
from training.slices import decode_video, encode_frames, slice_by_slice

_SIDE = 96
_BATCH = 8
_RATE = 1.5e-3
_WARM_UP = 100
_FOREGROUND = 4.0  # an object covers few pixels: by a plain mean its colour is lost
_SPREAD = 0.2  # latents that are a little off are to look nearly the same
_SMALL = 3e-4  # keeps latents around 1


def learning_rate(step: int, steps: int, highest: float, warm_up: int = _WARM_UP) -> float:
    """Up in a line, down along a cosine: whenever ``steps`` are over, the weights are finished."""
    if step < warm_up:
        return highest * (step + 1) / warm_up
    return highest * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def weighted_error(found: Tensor, wanted: Tensor, covered: Tensor) -> Tensor:
    """Mean absolute error in which the objects count as much as what is behind them."""
    weight = 1 + _FOREGROUND * covered[:, None]
    wrong = (found - wanted).abs()
    # The square sees a wrong colour more clearly, the plain error a soft edge.
    return ((wrong + wrong.square()) * weight).mean() / weight.mean()


def train_frames(
    directory: Path,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    report: Callable[[str], None],
    save_every: int = 100,
) -> None:
    """Leaves its weights in ``frames.pt``; see ``Stage``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = new_vae()
        begin_with_colours(vae, spread=_SPREAD)
    vae = slice_by_slice(vae).to(device)
    optimizer = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad],
        lr=_RATE,
        weight_decay=0.0,
        betas=(0.9, 0.99),
        fused=True,
    )
    stage = Stage("frames", directory, vae, optimizer, report)

    def learn() -> dict[str, float]:
        generator = generator_of(seed, stage.step)
        crops = draw_crops(_BATCH, _SIDE, generator)
        pictures = crops.pictures.to(device, memory_format=torch.channels_last)
        mean = encode_frames(vae, pictures)
        latents = mean + _SPREAD * torch.randn(mean.shape, generator=generator).to(device)
        found = decode_video(vae, latents.unsqueeze(2)).squeeze(2)
        error = weighted_error(found, pictures, crops.covered.to(device))
        size = mean.square().mean()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage.step, steps, _RATE)
        optimizer.zero_grad()
        (error + _SMALL * size).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        plain = (found - pictures).abs().mean().item()
        return {"error": error.item(), "plain": plain, "size": size.item()}

    stage.run(learn, steps=steps, save_every=save_every)
