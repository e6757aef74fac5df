"""Clips as latents. The encoder takes each fourth frame alone, so no other frame is drawn."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import AutoencoderKLWan
from torch import Tensor

from training.drawing import coverage, paint
from training.network import LATENT_PIXELS
from training.paths import behind, objects_of
from training.slices import encode_frames
from training.world import FRAMES, HEIGHT, LATENT_STRIDE, WIDTH, Scene

LATENT_FRAMES = (FRAMES - 1) // LATENT_STRIDE + 1


@dataclass(frozen=True)
class Clip:
    """``latents`` (channels, latent frames, height, width) and where the object is in them, 0 to 1."""

    scene: Scene
    latents: Tensor
    covered: Tensor


def draw(scene: Scene, frames: Sequence[float], dice: random.Random) -> tuple[Tensor, Tensor]:
    """Pictures (frames, 3, height, width) of -1 to 1, and what the object covers of them."""
    objects = objects_of(scene, frames, dice)
    count = len(frames)
    columns = torch.arange(WIDTH, dtype=torch.float32).expand(count, WIDTH)
    rows = torch.arange(HEIGHT, dtype=torch.float32).expand(count, HEIGHT)
    covered = coverage(objects, columns, rows)
    return paint(behind(scene, count), objects.colour, covered) * 2 - 1, covered


@torch.no_grad()
def encode_clip(vae: AutoencoderKLWan, scene: Scene, dice: random.Random) -> Clip:
    """A whole clip of 81 frames; any part of it is a clip of the same motion."""
    pictures, covered = draw(scene, range(0, FRAMES, LATENT_STRIDE), dice)
    mean = encode_frames(vae, pictures.to(vae.device, memory_format=torch.channels_last)).cpu()
    return Clip(
        scene=scene,
        latents=mean.transpose(0, 1).half(),
        covered=F.max_pool2d(covered[:, None], LATENT_PIXELS)[:, 0].half(),
    )
