"""Before the transformer learns to draw, its tokens learn where they are: of noise alone, which is cheap.

A motion is told from nothing but noise by which frame a token is in, and that is found only by how far the
first and the last one are. Learned beside all the rest it came last, or not at all.
"""

from collections.abc import Callable

import torch
from diffusers import WanTransformer3DModel

from training.checkpoints import generator_of
from training.muon import MuonAndAdamW
from training.network import LATENT_CHANNELS, LATENT_PIXELS, TEXT_WIDTH, TIMES
from training.questions import Questions
from training.reading import CountingAttention
from training.world import HEIGHT, LATENT_FRAMES, WIDTH

_BATCH = 2
_WARM_UP = 100
_REPORT = 50
_LATENTS = (HEIGHT // LATENT_PIXELS, WIDTH // LATENT_PIXELS)  # down and across


def learn_places(
    transformer: WanTransformer3DModel,
    attention: CountingAttention,
    questions: Questions,
    optimizer: MuonAndAdamW,
    *,
    seed: int,
    steps: int,
    report: Callable[[str], None],
    frames: int = LATENT_FRAMES,
) -> float:
    """The error that is left is returned: 0 where each token knows its frame, row and column."""
    device = transformer.device
    attention.weights = torch.zeros(_BATCH, 1, 1, 1, device=device)
    times = torch.full((_BATCH,), float(TIMES), device=device)
    nothing = torch.zeros(_BATCH, 1, TEXT_WIDTH, device=device)
    left = 0.0
    for step in range(steps):
        generator = generator_of(seed, step)
        noise = torch.randn(_BATCH, LATENT_CHANNELS, frames, *_LATENTS, generator=generator)
        transformer(noise.to(device), times, nothing, return_dict=False)
        error = questions.error_of_places(frames, *_LATENTS)
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step(min(1, (step + 1) / _WARM_UP))
        left = error.item()
        if (step + 1) % _REPORT == 0:
            report(f"places {step + 1}/{steps} error {left:.4f}")
    return left
