"""Second stage: the transformer and the text encoder learn to make what a caption says."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from training.captions import caption
from training.checkpoints import Progress, load_progress, save_progress
from training.clips import LATENT_FRAMES, Clip, encode_clip
from training.frames_stage import learning_rate
from training.network import FLOW_SHIFT, new_text_encoder, new_transformer
from training.reading import Reader, count_tokens, is_text_attention
from training.split import is_held_out, training_scenes
from training.word_stage import learn_words
from training.words import new_tokenizer
from training.world import Scene

_RATE = 1e-3
_WARM_UP = 100
_AVERAGE = 0.995  # of the weights: what is rendered with
_UNCONDITIONED = 0.1
_FOREGROUND = 3.0
_SEES_TEXT = 2.5  # sharpens the first attention to text, else padding drowns it
_TOKENS = 2000  # a step
_TOKENS_PER_FRAME = 65
_FIRST_CLIPS = 96  # before the first step


@dataclass(frozen=True)
class Lengths:
    """Until this part of the training is over, clips have these latent frames, as often as listed."""

    until: float
    frames: tuple[int, ...]


# Colour, shape and background are learned from single frames, which are cheap; long clips come last.
LENGTHS = (
    Lengths(0.25, (1, 1, 1, 3, 5)),
    Lengths(0.7, (1, 3, 5, 5, 7, 9, 9, 13)),
    Lengths(1.01, (1, 5, 5, 9, 9, 13, 17, 21)),
)


class Model(nn.Module):
    """What is trained together."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.transformer = new_transformer()
        self.text_encoder = new_text_encoder(words)
        listen_to_text(self.transformer)


@torch.no_grad()
def listen_to_text(transformer: WanTransformer3DModel) -> None:
    """Padding starts as nothing, and the few words of a prompt outweigh it."""
    embedder = transformer.condition_embedder.text_embedder
    layers = [embedder.linear_1, embedder.linear_2]
    for module in transformer.modules():
        if is_text_attention(module):
            layers += [module.to_k, module.to_v]
            module.norm_k.weight.fill_(_SEES_TEXT)
    for layer in layers:
        layer.bias.zero_()


class Pool:
    """Clips encoded so far, kept in a folder. More come while the training goes on."""

    def __init__(self, directory: Path, vae: AutoencoderKLWan, *, size: int, seed: int) -> None:
        self._directory, self._vae, self._size, self._seed = directory, vae, size, seed
        self._scenes = training_scenes()
        self.clips: list[Clip] = []
        directory.mkdir(parents=True, exist_ok=True)

    def grow(self, count: int) -> None:
        """There are so many afterwards, if the pool is that large."""
        for number in range(len(self.clips), min(count, self._size)):
            self.clips.append(self._load(number) or self._encode(number))

    def _scene(self, number: int) -> Scene:
        """All scenes in turn, in another order each time."""
        turn, index = divmod(number, len(self._scenes))
        order = random.Random(f"order {self._seed} {turn}")
        return order.sample(self._scenes, len(self._scenes))[index]

    def _file(self, number: int) -> Path:
        return self._directory / f"{number:05}.pt"

    def _load(self, number: int) -> Clip | None:
        if not self._file(number).is_file():
            return None
        latents, covered = torch.load(self._file(number), weights_only=True)
        return Clip(self._scene(number), latents, covered)

    def _encode(self, number: int) -> Clip:
        dice = random.Random(f"clip {self._seed} {number}")
        clip = encode_clip(self._vae, self._scene(number), dice)
        unfinished = self._file(number).with_suffix(".part")
        torch.save((clip.latents.clone(), clip.covered.clone()), unfinished)
        unfinished.replace(self._file(number))
        return clip

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, of the first clips."""
        self.grow(_FIRST_CLIPS)
        first = [clip.latents.float() for clip in self.clips[:_FIRST_CLIPS]]
        values = torch.stack(first).transpose(0, 1).flatten(1)
        return values.mean(1), values.std(1)


_BACKWARDS = {"left": "right", "up": "down", "grow": "shrink"}
_BACKWARDS |= {after: before for before, after in _BACKWARDS.items()}


def backwards(clip: Clip) -> Clip:
    """The clip from its end, if that is a scene to learn from; else the clip itself."""
    motion = _BACKWARDS.get(clip.scene.motion)
    scene = replace(clip.scene, motion=motion) if motion else clip.scene
    if motion is None or is_held_out(scene):
        return clip
    return Clip(scene, clip.latents.flip(1), clip.covered.flip(0))


@dataclass(frozen=True)
class Batch:
    latents: Tensor  # (clips, channels, latent frames, height, width), normal
    covered: Tensor  # (clips, latent frames, height, width)
    prompts: list[str]


def take(
    clips: Sequence[Clip], part: float, mean: Tensor, std: Tensor, dice: random.Random
) -> Batch:
    """Parts of clips, of as many latent frames as are due when ``part`` of the training is over."""
    frames = dice.choice(next(each.frames for each in LENGTHS if part < each.until))
    count = max(2, _TOKENS // (frames * _TOKENS_PER_FRAME))
    latents, covered, prompts = [], [], []
    for chosen in dice.choices(clips, k=count):
        clip = backwards(chosen) if dice.random() < 0.5 else chosen
        first = dice.randrange(LATENT_FRAMES - frames + 1)
        latents.append(clip.latents[:, first : first + frames].float())
        covered.append(clip.covered[first : first + frames].float())
        unconditioned = dice.random() < _UNCONDITIONED
        prompts.append("" if unconditioned else caption(clip.scene, dice))
    normal = (torch.stack(latents) - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    return Batch(normal, torch.stack(covered), prompts)


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """Sigmas as a render meets them: evenly spaced, then shifted towards noise."""
    # One in each of ``count`` equal parts: less chance, a steadier loss.
    even = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)


class FlowTraining:
    def __init__(self, directory: Path, vae: AutoencoderKLWan, *, seed: int, clips: int) -> None:
        self._file = directory / "flow.pt"
        self._seed = seed
        self.tokenizer = new_tokenizer(seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = Model(len(self.tokenizer))
            self.average = Model(len(self.tokenizer))
        self.average.requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=_RATE, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        )
        self._attention = count_tokens(self.model.transformer)
        self._reader = Reader(self.tokenizer, self.model.text_encoder)
        self.pool = Pool(directory / "clips", vae, size=clips, seed=seed)
        both = nn.ModuleDict({"model": self.model, "average": self.average})
        self._both = both
        progress = load_progress(self._file, both, self._optimizer)
        if progress is None:
            learn_words(self._reader, self.model.text_encoder, seed=seed)
            self.average.load_state_dict(self.model.state_dict())
        self.progress = progress or Progress()

    def train(self, *, steps: int, save_every: int = 100) -> None:
        mean, std = self.pool.statistics()
        while self.progress.step < steps:
            step = self.progress.step
            self.pool.grow(_FIRST_CLIPS + step // 2)
            dice = random.Random(f"step {self._seed} {step}")
            batch = take(self.pool.clips, step / steps, mean, std, dice)
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
            error = self._error(batch, generator)
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate(step, steps, _RATE, _WARM_UP)
            self._optimizer.zero_grad()
            error.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self._optimizer.step()
            self._remember()
            self.progress.note(
                **{"error": error.item(), f"error {batch.latents.shape[2]}": error.item()}
            )
            if self.progress.step % save_every == 0 or self.progress.step == steps:
                save_progress(self._file, self.progress, self._both, self._optimizer)
                print(f"flow {self.progress.step}/{steps} {self.progress.recent()}", flush=True)

    def _error(self, batch: Batch, generator: torch.Generator) -> Tensor:
        noise = torch.randn(batch.latents.shape, generator=generator)
        sigmas = noise_levels(len(noise), generator)
        wide = sigmas.view(-1, 1, 1, 1, 1)
        embeddings, self._attention.weights = self._reader.read(batch.prompts)
        flow = self.model.transformer(
            (1 - wide) * batch.latents + wide * noise, sigmas * 1000, embeddings, return_dict=False
        )[0]
        weight = 1 + _FOREGROUND * batch.covered[:, None]
        error = (flow - (noise - batch.latents)).square() * weight
        return error.mean() / weight.mean()

    @torch.no_grad()
    def _remember(self) -> None:
        # Young averages forget faster, or they would remember the beginning.
        keep = min(_AVERAGE, (1 + self.progress.step) / (10 + self.progress.step))
        for old, new in zip(self.average.parameters(), self.model.parameters(), strict=True):
            old.lerp_(new, 1 - keep)
