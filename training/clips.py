"""Clips as latents. The encoder takes each fourth frame alone, so no other frame is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import AutoencoderKLWan
from torch import Tensor

from training.drawing import Objects, coverage, paint
from training.paths import behind, objects_of
from training.questions import CELL
from training.slices import encode_frames
from training.world import FRAMES, HEIGHT, LATENT_STRIDE, WIDTH, Scene


@dataclass(frozen=True)
class Clip:
    """One that is encoded, and what is known of its object."""

    scene: Scene
    latents: Tensor  # (channels, latent frames, height, width)
    cells: Tensor  # (latent frames, height, width): what share of each cell is the object's
    middle: Tensor  # (latent frames, 2): where the object is, x and y in pixels


@dataclass(frozen=True)
class Drawn:
    """``pictures`` (frames, 3, height, width) of -1 to 1, and what the object covers of them."""

    pictures: Tensor
    covered: Tensor
    objects: Objects


def draw(scene: Scene, frames: Sequence[float]) -> Drawn:
    objects = objects_of(scene, frames)
    count = len(frames)
    columns = torch.arange(WIDTH, dtype=torch.float32).expand(count, WIDTH)
    rows = torch.arange(HEIGHT, dtype=torch.float32).expand(count, HEIGHT)
    covered = coverage(objects, columns, rows)
    pictures = paint(behind(scene, count), objects.colour, covered) * 2 - 1
    return Drawn(pictures, covered, objects)


@torch.no_grad()
def encode_clip(vae: AutoencoderKLWan, scene: Scene) -> Clip:
    """A whole clip of 81 frames; any part of it is a clip of the same motion."""
    drawn = draw(scene, range(0, FRAMES, LATENT_STRIDE))
    pictures = drawn.pictures.to(vae.device, memory_format=torch.channels_last)
    mean = encode_frames(vae, pictures).cpu()
    return Clip(
        scene=scene,
        latents=mean.transpose(0, 1).half(),
        cells=F.avg_pool2d(drawn.covered[:, None], CELL)[:, 0].half(),
        middle=torch.stack([drawn.objects.x, drawn.objects.y], dim=1),
    )
