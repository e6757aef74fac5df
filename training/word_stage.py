"""Before the transformer learns to draw, the text encoder learns what captions say: that is cheap."""

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from torch import nn
from transformers import UMT5EncoderModel

from training.captions import caption
from training.network import TEXT_WIDTH
from training.reading import Reader
from training.split import training_scenes
from training.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Scene

_BATCH = 48
_RATE = 2e-3
_PROPERTIES = {
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "background": tuple(BACKGROUNDS),
}


def learn_words(
    reader: Reader,
    encoder: UMT5EncoderModel,
    *,
    seed: int,
    steps: int,
    report: Callable[[str], None],
) -> float:
    """Each token of a caption learns to tell the whole scene; the share that does is returned."""
    dice, device = random.Random(f"words {seed}"), encoder.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judges = nn.ModuleDict(
            {name: nn.Linear(TEXT_WIDTH, len(values)) for name, values in _PROPERTIES.items()}
        ).to(device)
    parameters = [*encoder.parameters(), *judges.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0.01)
    scenes = training_scenes()
    right = 0.0
    for step in range(steps):
        batch = [dice.choice(scenes) for _ in range(_BATCH)]
        states, weights = reader.read([caption(scene, dice) for scene in batch])
        own = weights[:, 0, 0, :-1] == 0  # not padding
        error = torch.zeros((), device=device)
        guesses = []
        for name, values in _PROPERTIES.items():
            wanted = _labels(batch, name, values).to(device)[:, None].expand_as(own)[own]
            found = judges[name](states[:, :-1][own])
            error = error + F.cross_entropy(found, wanted)
            guesses.append((found.argmax(-1) == wanted).float().mean().item())
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / 50, 3 * (1 - step / steps) + 0.03)
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        right = sum(guesses) / len(guesses)
        if (step + 1) % 100 == 0:
            report(f"words {step + 1}/{steps} error {error.item():.3f} right {right:.3f}")
    return right


def _labels(scenes: list[Scene], name: str, values: tuple[str, ...]) -> torch.Tensor:
    return torch.tensor([values.index(getattr(scene, name)) for scene in scenes])
