"""Last stage: a second transformer learns to do in a few steps, without guidance, what the first does in many.

It is told a noise level and what is seen at it, and learns where the first one's guided steps end from
there. Half of what it sees is its own work so far, as in a render.
"""

import copy
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from training.checkpoints import Stage, generator_of
from training.flow_stage import FOREGROUND, TOKENS_PER_FRAME, FlowTraining, remember
from training.frames_stage import learning_rate
from training.network import FEW_TIMESTEPS, FLOW_SHIFT, GUIDANCE_SCALE, TIMES, shifted, sigma_of
from training.pool import Batch, take
from training.reading import Reader, count_tokens

_RATE = 4e-4
_WARM_UP = 20
_AVERAGE = 0.98
_OWN_WORK = 0.5
FRAMES = (5, 5, 9, 9, 21)  # latent ones; as listed, so often
# From each of its noise levels the first one takes so many steps to the end.
_TEACHER_STEPS = (10, 8, 6, 4)


@dataclass(frozen=True)
class _Texts:
    """What prompts say to a transformer: embeddings, and how often each of their tokens counts."""

    states: Tensor
    weights: Tensor


class FewStepsTraining:
    """Leaves its weights in ``few_steps.pt``; see ``Stage``."""

    def __init__(
        self,
        directory: Path,
        flow: FlowTraining,
        *,
        seed: int,
        tokens: int,
        report: Callable[[str], None],
        frames: Sequence[int] = FRAMES,
    ) -> None:
        self._seed, self._tokens, self._frames = seed, tokens, frames
        self._flow, self._device = flow, flow.device
        self._teacher = flow.average.transformer
        self.model: WanTransformer3DModel = copy.deepcopy(self._teacher).requires_grad_(True)
        self.average: WanTransformer3DModel = copy.deepcopy(self._teacher)
        self._counts = {each: count_tokens(each) for each in (self._teacher, self.model)}
        self._normal = flow.normal()
        self._reader = Reader(flow.tokenizer, flow.average.text_encoder, self._device)
        self._sigmas = [sigma_of(timestep) for timestep in FEW_TIMESTEPS]
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=_RATE, weight_decay=0.01, betas=(0.9, 0.98), fused=True
        )
        both = nn.ModuleDict({"model": self.model, "average": self.average})
        self._stage = Stage("few steps", directory, both, self._optimizer, report)

    def train(self, *, steps: int, save_every: int = 20) -> None:
        def learn() -> dict[str, float]:
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate(self._stage.step, steps, _RATE, _WARM_UP)
            level, error = self._learn()
            return {"error": error, f"error {FEW_TIMESTEPS[level]}": error}

        self._stage.run(learn, steps=steps, save_every=save_every)

    def _learn(self) -> tuple[int, float]:
        step = self._stage.step
        dice = random.Random(f"few steps {self._seed} {step}")
        generator = generator_of(self._seed, step)
        batch, level = self._batch(dice), dice.randrange(len(self._sigmas))
        own_work = dice.random() < _OWN_WORK
        with torch.no_grad():
            prompts = _Texts(*self._reader.read(batch.prompts))
            nothing = _Texts(*self._reader.read([""] * len(batch.prompts)))
            begun = self._begun(level, batch, prompts, generator, own_work=own_work)
            wanted = self._guided_to_the_end(level, begun, prompts, nothing)
        self._optimizer.zero_grad()
        found = self._clean(level, begun, prompts)
        weight = 1 + FOREGROUND * batch.covered[:, None].to(self._device)
        error = ((found - wanted).square() * weight).mean() / weight.mean()
        error.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        remember(self.average, self.model, step=step, keep=_AVERAGE)
        return level, error.item()

    def _batch(self, dice: random.Random) -> Batch:
        frames = dice.choice(self._frames)
        count = max(1, self._tokens // (frames * TOKENS_PER_FRAME))
        clips = self._flow.pool.clips
        return take(clips, frames=frames, count=count, normal=self._normal, dice=dice)

    def _begun(
        self,
        level: int,
        batch: Batch,
        prompts: _Texts,
        generator: torch.Generator,
        *,
        own_work: bool,
    ) -> Tensor:
        """Latents with the noise of this level: of clips, or of what the steps before have made."""

        def noise() -> Tensor:
            return torch.randn(batch.latents.shape, generator=generator).to(self._device)

        if not own_work:
            sigma = self._sigmas[level]
            return (1 - sigma) * batch.latents.to(self._device) + sigma * noise()
        latents = noise()
        for before in range(level):
            clean = self._clean(before, latents, prompts)
            sigma = self._sigmas[before + 1]
            latents = (1 - sigma) * clean + sigma * noise()
        return latents

    def _clean(self, level: int, latents: Tensor, texts: _Texts) -> Tensor:
        """What it takes for clean, in one step."""
        sigma = self._sigmas[level]
        return latents - sigma * self._flow_of(self.model, sigma, latents, texts)

    def _guided_to_the_end(
        self, level: int, latents: Tensor, prompts: _Texts, nothing: _Texts
    ) -> Tensor:
        """Where the many steps of the first one lead."""
        for sigma, following in _way_down(FEW_TIMESTEPS[level], _TEACHER_STEPS[level]):
            with_prompt = self._flow_of(self._teacher, sigma, latents, prompts)
            without = self._flow_of(self._teacher, sigma, latents, nothing)
            flow = without + GUIDANCE_SCALE * (with_prompt - without)
            latents = latents + (following - sigma) * flow
        return latents

    def _flow_of(
        self, transformer: WanTransformer3DModel, sigma: float, latents: Tensor, texts: _Texts
    ) -> Tensor:
        self._counts[transformer].weights = texts.weights
        times = torch.full((len(latents),), sigma * TIMES, device=self._device)
        flow: Tensor = transformer(latents, times, texts.states, return_dict=False)[0]
        return flow


def _way_down(timestep: int, steps: int) -> list[tuple[float, float]]:
    """Pairs of noise levels from this timestep's to none, spaced as the many steps of a render."""
    sigma = sigma_of(timestep)
    even = sigma / (FLOW_SHIFT - (FLOW_SHIFT - 1) * sigma)
    sigmas: list[float] = shifted(torch.linspace(even, 0, steps + 1, dtype=torch.float64)).tolist()
    return list(itertools.pairwise(sigmas))
