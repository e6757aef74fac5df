"""Second stage: the transformer and the text encoder learn to make what a caption says."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from training.checkpoints import Stage, generator_of
from training.first_flow import begin_with_neighbours, begin_with_noise
from training.frames_stage import learning_rate
from training.muon import MuonAndAdamW
from training.network import TIMES, new_text_encoder, new_transformer, shifted, tokens_of
from training.place_stage import learn_places
from training.pool import Batch, Normal, Pool, take
from training.questions import Questions
from training.reading import Reader, count_tokens
from training.word_stage import learn_words
from training.words import new_tokenizer
from training.world import HEIGHT, WIDTH

_MATRIX_RATE, _OTHER_RATE = 8e-3, 3e-3
_WARM_UP = 100
_AVERAGE = 0.998  # of the weights: what is rendered with
FOREGROUND = 5.0
_ASKING = 3.0  # how much what the transformer knows counts beside what it makes
_MATRIX = 2  # dimensions
_LEVELS = 20
_LEARNS_LEVELS = 0.05
TOKENS_PER_FRAME = tokens_of(1, HEIGHT, WIDTH)


@dataclass(frozen=True)
class Lengths:
    """Until this part of the training is over, clips have these latent frames, as often as listed."""

    until: float
    frames: tuple[int, ...]


# Colour, shape and background are learned from single frames, which are cheap; long clips come last.
LENGTHS = (
    Lengths(0.1, (1, 1, 3, 21)),
    Lengths(1.01, (1, 5, 9, 13, 21, 21, 21)),
)


@dataclass(frozen=True)
class FlowPlan:
    seed: int
    clips: int
    first_clips: int = 300  # encoded before the first step
    steps_per_clip: int = 2  # how often one more is encoded
    words_steps: int = 300  # of the text encoder alone
    places_steps: int = 200  # of the transformer, from noise alone
    tokens: int = 2400  # a step


class Model(nn.Module):
    """What is trained together."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.transformer = new_transformer()
        self.text_encoder = new_text_encoder(words)
        generator = torch.Generator().manual_seed(torch.initial_seed())
        begin_with_noise(self.transformer, generator)
        begin_with_neighbours(self.transformer)


class Balance(nn.Module):
    """Weighs errors so that each noise level teaches as much as any other.

    Where nearly all is noise the error is large whatever is learned, for nobody can know where the
    object will be; unweighted, the middle levels, which shape it, are hardly heard. What is expected of
    a level is the average of what was found there (as in Karras et al. 2023, arXiv 2312.02696, by a
    table instead of a network).
    """

    def __init__(self) -> None:
        super().__init__()
        self.expected: Tensor
        self.register_buffer("expected", torch.ones(_LEVELS))

    def forward(self, errors: Tensor, sigmas: Tensor) -> Tensor:
        """Both are (clips,)."""
        level = (sigmas * _LEVELS).long().clamp(max=_LEVELS - 1)
        balanced: Tensor = (errors / self.expected[level]).mean()
        with torch.no_grad():
            nothing = torch.zeros_like(self.expected)
            counts = nothing.index_add(0, level, torch.ones_like(errors))
            found = nothing.index_add(0, level, errors) / counts.clamp(min=1)
            self.expected.lerp_(found, _LEARNS_LEVELS * (counts > 0))
        return balanced


class FlowTraining:
    """Leaves its weights in ``flow.pt``; see ``Stage``."""

    def __init__(
        self,
        directory: Path,
        vae: AutoencoderKLWan,
        plan: FlowPlan,
        *,
        device: torch.device,
        report: Callable[[str], None],
    ) -> None:
        self._plan, self.device, self._report = plan, device, report
        self.tokenizer = new_tokenizer(seed=plan.seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            self.model = Model(len(self.tokenizer)).to(device)
        with torch.random.fork_rng(devices=[]):
            self.average = Model(len(self.tokenizer)).to(device).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            self._questions = Questions(self.model.transformer).to(device)
        self._balance = Balance().to(device)
        everything = nn.ModuleDict(
            {
                "model": self.model,
                "average": self.average,
                "questions": self._questions,
                "balance": self._balance,
            }
        )
        self._optimizer = _new_optimizer(self.model, self._questions)
        self._attention = count_tokens(self.model.transformer)
        self._reader = Reader(self.tokenizer, self.model.text_encoder, device)
        self.pool = Pool(directory / "clips", vae, size=plan.clips, seed=plan.seed)
        self._stage = Stage("flow", directory, everything, self._optimizer, report)
        if self._stage.is_new:
            self._begin()

    def _begin(self) -> None:
        learn_words(
            self._reader,
            self.model.text_encoder,
            seed=self._plan.seed,
            steps=self._plan.words_steps,
            report=self._report,
        )
        learn_places(
            self.model.transformer,
            self._attention,
            self._questions,
            _new_optimizer(self.model, self._questions),
            seed=self._plan.seed,
            steps=self._plan.places_steps,
            report=self._report,
        )
        self.average.load_state_dict(self.model.state_dict())

    def normal(self) -> Normal:
        return Normal(*self.pool.statistics(self._plan.first_clips))

    def train(self, *, steps: int, save_every: int = 100) -> None:
        normal = self.normal()

        def learn() -> dict[str, float]:
            batch = self._batch(steps, normal)
            error = self._learn(batch, learning_rate(self._stage.step, steps, 1.0, _WARM_UP))
            return {"error": error, f"error {batch.latents.shape[2]}": error}

        self._stage.run(learn, steps=steps, save_every=save_every)

    def _batch(self, steps: int, normal: Normal) -> Batch:
        plan, step = self._plan, self._stage.step
        self.pool.grow(plan.first_clips + step // plan.steps_per_clip)
        dice = random.Random(f"step {plan.seed} {step}")
        frames = dice.choice(next(each.frames for each in LENGTHS if step / steps < each.until))
        count = max(2, plan.tokens // (frames * TOKENS_PER_FRAME))
        return take(self.pool.clips, frames=frames, count=count, normal=normal, dice=dice)

    def _learn(self, batch: Batch, share: float) -> float:
        generator = generator_of(self._plan.seed, self._stage.step)
        self._optimizer.zero_grad()
        errors, sigmas = self._errors(batch, generator)
        cells, middle = batch.cells.to(self.device), batch.middle.to(self.device)
        asked = self._questions.error(cells, middle)
        (self._balance(errors, sigmas) + _ASKING * asked).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step(share)
        remember(self.average, self.model, step=self._stage.step, keep=_AVERAGE)
        return errors.mean().item()

    def _errors(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of each clip, and its noise level."""
        noise = torch.randn(batch.latents.shape, generator=generator)
        sigmas = noise_levels(len(noise), generator).to(self.device)
        noise, latents = noise.to(self.device), batch.latents.to(self.device)
        wide = sigmas.view(-1, 1, 1, 1, 1)
        embeddings, self._attention.weights = self._reader.read(batch.prompts)
        flow = self.model.transformer(
            (1 - wide) * latents + wide * noise, sigmas * TIMES, embeddings, return_dict=False
        )[0]
        weight = 1 + FOREGROUND * batch.covered[:, None].to(self.device)
        errors = (flow - (noise - latents)).square() * weight
        return errors.flatten(1).mean(1) / weight.mean(), sigmas


def _new_optimizer(model: Model, questions: Questions) -> MuonAndAdamW:
    matrices = [
        weight for weight in model.transformer.blocks.parameters() if weight.ndim == _MATRIX
    ]
    muons = set(matrices)
    others = [each for each in (*model.parameters(), *questions.parameters()) if each not in muons]
    return MuonAndAdamW(matrices, others, matrix_rate=_MATRIX_RATE, other_rate=_OTHER_RATE)


@torch.no_grad()
def remember(average: nn.Module, model: nn.Module, *, step: int, keep: float) -> None:
    """The average of a model's weights over its steps: the newest count most."""
    # Young averages forget faster, or they would remember the beginning.
    keep = min(keep, (1 + step) / (10 + step))
    for old, new in zip(average.parameters(), model.parameters(), strict=True):
        old.lerp_(new, 1 - keep)


def noise_levels(count: int, generator: torch.Generator) -> Tensor:
    """Sigmas as a render meets them: evenly spaced, then shifted towards noise."""
    # One in each of ``count`` equal parts: less chance, a steadier loss.
    even = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return shifted(even)
