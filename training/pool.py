"""Clips to learn from: encoded once, kept in a folder, taken in parts with ever new captions."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody writes it
from diffusers import AutoencoderKLWan
from torch import Tensor

from training.captions import caption
from training.clips import Clip, encode_clip
from training.network import LATENT_PIXELS
from training.questions import CELL
from training.split import is_held_out, training_scenes
from training.world import LATENT_FRAMES

_UNCONDITIONED = 0.1  # with an empty caption, as guidance will ask
_BACKWARDS_SHARE = 0.5
# Where nothing else is said a clip shows a motion from its beginning. A segment that goes on from a picture
# finds itself anywhere in it.
_FROM_THE_BEGINNING = 0.9
_BACKWARDS = {"left": "right", "up": "down", "grow": "shrink"}
_BACKWARDS |= {after: before for before, after in _BACKWARDS.items()}


class Pool:
    """Clips encoded so far. More come while the training goes on."""

    def __init__(self, directory: Path, vae: AutoencoderKLWan, *, size: int, seed: int) -> None:
        scenes = training_scenes()
        self._directory, self._vae = directory, vae
        self._scenes = random.Random(f"order {seed}").sample(scenes, min(size, len(scenes)))
        self.clips: list[Clip] = []
        directory.mkdir(parents=True, exist_ok=True)

    def grow(self, count: int) -> None:
        """There are so many afterwards, if the pool is that large."""
        for number in range(len(self.clips), min(count, len(self._scenes))):
            self.clips.append(self._load(number) or self._encode(number))

    def statistics(self, count: int) -> tuple[Tensor, Tensor]:
        """What is taken from each channel, and what it is divided by: of the first ``count`` clips.

        By the root of its standard deviation, not by the whole: channels of edges are nearly still
        everywhere but at an object, and made as loud as those of colours they would drown them.
        """
        self.grow(count)
        values = torch.stack([clip.latents.float() for clip in self.clips[:count]])
        values = values.transpose(0, 1).flatten(1)
        return values.mean(1), values.std(1).sqrt()

    def _file(self, number: int) -> Path:
        return self._directory / f"{number:05}.pt"

    def _load(self, number: int) -> Clip | None:
        if not self._file(number).is_file():
            return None
        latents, cells, middle = torch.load(self._file(number), weights_only=True)
        return Clip(self._scenes[number], latents, cells, middle)

    def _encode(self, number: int) -> Clip:
        clip = encode_clip(self._vae, self._scenes[number])
        unfinished = self._file(number).with_suffix(".part")
        torch.save((clip.latents.clone(), clip.cells.clone(), clip.middle), unfinished)
        unfinished.replace(self._file(number))
        return clip


@dataclass(frozen=True)
class Batch:
    latents: Tensor  # (clips, channels, latent frames, height, width), as the transformer sees them
    cells: Tensor  # (clips, latent frames, height, width) of cells: what is the object's, 0 to 1
    middle: Tensor  # (clips, latent frames, 2): where it is
    prompts: list[str]

    @property
    def covered(self) -> Tensor:
        """Of each latent the most that the object covers of one of its cells."""
        return F.max_pool2d(self.cells, LATENT_PIXELS // CELL)


@dataclass(frozen=True)
class Normal:
    """How latents are made normal; each is (channels,)."""

    mean: Tensor
    divisor: Tensor

    def of(self, latents: Tensor) -> Tensor:
        shape = (1, -1, 1, 1, 1)
        return (latents - self.mean.view(shape)) / self.divisor.view(shape)


def take(
    clips: Sequence[Clip], *, frames: int, count: int, normal: Normal, dice: random.Random
) -> Batch:
    """``count`` parts of clips, of so many latent frames each."""
    latents, cells, middle, prompts = [], [], [], []
    for chosen in dice.choices(clips, k=count):
        clip = backwards(chosen) if dice.random() < _BACKWARDS_SHARE else chosen
        anywhere = dice.randrange(LATENT_FRAMES - frames + 1)
        first = 0 if dice.random() < _FROM_THE_BEGINNING else anywhere
        part = slice(first, first + frames)
        latents.append(clip.latents[:, part].float())
        cells.append(clip.cells[part].float())
        middle.append(clip.middle[part])
        unconditioned = dice.random() < _UNCONDITIONED
        prompts.append("" if unconditioned else caption(clip.scene, dice))
    return Batch(normal.of(torch.stack(latents)), torch.stack(cells), torch.stack(middle), prompts)


def backwards(clip: Clip) -> Clip:
    """The clip from its end, if that is a scene to learn from; else the clip itself."""
    motion = _BACKWARDS.get(clip.scene.motion)
    if motion is None or is_held_out(replace(clip.scene, motion=motion)):
        return clip
    scene = replace(clip.scene, motion=motion)
    return Clip(scene, clip.latents.flip(1), clip.cells.flip(0), clip.middle.flip(0))
