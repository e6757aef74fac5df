"""How latents move from one noise level to the next: the two samplers that presets name.

A noise level is a sigma, 1 for nothing but noise and 0 for none. All coefficients are worked out
before the first step: a step itself is a few tensor operations and never waits for the device.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.gpu_worker.backends.backend import Segment
from shared.errors import ModelUnavailable

_TRAIN_STEPS = 1000  # the transformer was trained with this many noise levels
_SIGMA_EPS = 1e-6  # a first sigma of exactly 1 would have an infinite log-SNR

# What a scheduler_config.json must say, and what it may only say if it mentions it at all.
_UNIPC_NEEDS: dict[str, Any] = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_UNIPC_ALLOWS: dict[str, Any] = {
    "_class_name": "UniPCMultistepScheduler",
    "disable_corrector": [],
    "final_sigmas_type": "zero",
    "lower_order_final": True,
    "num_train_timesteps": _TRAIN_STEPS,
    "predict_x0": True,
    "shift_terminal": None,
    "solver_order": 2,
    "solver_p": None,
    "solver_type": "bh2",
    "thresholding": False,
    "use_beta_sigmas": False,
    "use_dynamic_shifting": False,
    "use_exponential_sigmas": False,
    "use_karras_sigmas": False,
}


class Scheduler(Protocol):
    """The steps of one render, taken in order. Each render needs its own."""

    @property
    def timesteps(self) -> Tensor:
        """(steps,) int64, on the CPU: what the transformer is told at each step."""

    def step(self, prediction: Tensor, latents: Tensor) -> Tensor:
        """The next step's latents, float32, from these and the flow predicted for them."""


def scheduler_for(segment: Segment, config: Mapping[str, Any]) -> Scheduler:
    """The one its preset names. Raises ``ModelUnavailable`` when the model's config forbids it."""
    if segment.scheduler == "dmd":
        # A distilled model was trained for its own few noise levels, whatever its config says.
        return FewStep(
            timesteps=segment.timesteps, flow_shift=segment.flow_shift, seed=segment.seed
        )
    check_unipc_config(config)
    return UniPC(steps=segment.steps, flow_shift=segment.flow_shift)


def check_unipc_config(config: Mapping[str, Any]) -> None:
    """Raises ``ModelUnavailable`` when a scheduler_config.json asks for what ``UniPC`` is not."""
    for key, wanted in (_UNIPC_NEEDS | _UNIPC_ALLOWS).items():
        found = config.get(key, None if key in _UNIPC_NEEDS else wanted)
        if (list(found) if isinstance(found, tuple) else found) != wanted:
            raise ModelUnavailable(
                f"The model's scheduler/scheduler_config.json says {key}: {found!r}, "
                f"but only {wanted!r} can be rendered here."
            )


@dataclass(frozen=True)
class _Weights:
    """A weighted sum: of a sample, the newest clean prediction, the one before, the next one."""

    sample: float
    newest: float
    older: float = 0.0
    following: float = 0.0


class UniPC:
    """UniPC of order 2 (B(h) = exp(h) - 1, Zhao et al. 2023, arXiv 2302.04867) for flow models.

    It predicts from clean latents, and corrects each sample once its own prediction is known.
    """

    def __init__(self, *, steps: int, flow_shift: float) -> None:
        levels = np.linspace(1, 1 / _TRAIN_STEPS, steps + 1)[:-1]
        levels = flow_shift * levels / (1 + (flow_shift - 1) * levels)
        if abs(levels[0] - 1) < _SIGMA_EPS:
            levels[0] -= _SIGMA_EPS
        self.timesteps = torch.from_numpy((levels * _TRAIN_STEPS).astype(np.int64))
        self.sigmas: npt.NDArray[np.float32] = np.append(levels, 0).astype(np.float32)
        sigmas = [float(sigma) for sigma in self.sigmas]
        log_snrs = [math.log1p(-sigma) - math.log(sigma) for sigma in sigmas[:-1]] + [math.inf]
        self._sigmas = sigmas
        # The first step knows no earlier prediction; the last, to sigma 0, needs none.
        orders = [2 if 0 < index < steps - 1 else 1 for index in range(steps)]
        self._predictors = [
            _predictor(sigmas, log_snrs, index, order) for index, order in enumerate(orders)
        ]
        self._correctors = [
            _corrector(sigmas, log_snrs, index, order) for index, order in enumerate(orders[:-1])
        ]
        self._index = 0
        self._sample: Tensor | None = None  # the last one, corrected
        self._clean: list[Tensor] = []  # what it and the one before were predicted to become

    def step(self, prediction: Tensor, latents: Tensor) -> Tensor:
        index = self._index
        clean = torch.add(latents, prediction, alpha=-self._sigmas[index])
        if self._sample is not None:
            latents = _sum(self._correctors[index - 1], self._sample, self._clean, clean)
        self._sample, self._clean = latents, [clean, *self._clean[:1]]
        self._index += 1
        return _sum(self._predictors[index], latents, self._clean)


class FewStep:
    """The few steps of a model distilled by distribution matching (DMD, arXiv 2405.14867).

    Each predicts clean latents at once; all but the last noise them again, less than before. That
    noise is drawn on the CPU by a generator of its own, from the render's seed: the same seed means
    the same on every device.
    """

    def __init__(self, *, timesteps: Sequence[int], flow_shift: float, seed: int) -> None:
        self.timesteps = torch.tensor(timesteps, dtype=torch.int64)
        self.sigmas = _nearest_sigmas(timesteps, flow_shift)
        self._generator = torch.Generator("cpu").manual_seed(_noise_seed(seed))
        self._moves = list(pairwise([*self.sigmas, 0.0]))
        self._index = 0

    def step(self, prediction: Tensor, latents: Tensor) -> Tensor:
        sigma, following = self._moves[self._index]
        self._index += 1
        # Where sigma is near 1, two large numbers leave a small one: in float64, as in training.
        clean = (latents.double() - sigma * prediction.double()).float()
        if not following:
            return clean
        noise = torch.randn(clean.shape, generator=self._generator).to(clean.device)
        return clean.mul_(1 - following).add_(noise, alpha=following)


def _predictor(sigmas: list[float], log_snrs: list[float], index: int, order: int) -> _Weights:
    """From the sample at ``index`` to the one after it."""
    before, after = sigmas[index], sigmas[index + 1]
    growth = math.expm1(log_snrs[index] - log_snrs[index + 1])
    whole = (1 - after) * growth
    if order == 1:
        return _Weights(after / before, -whole)
    # Half of the slope between the two newest predictions.
    slope = 0.5 * whole / _ratio(log_snrs, index)
    return _Weights(after / before, slope - whole, older=-slope)


def _corrector(sigmas: list[float], log_snrs: list[float], index: int, order: int) -> _Weights:
    """The same way once more, now that the prediction at its end is known."""
    before, after = sigmas[index], sigmas[index + 1]
    negative_step = log_snrs[index] - log_snrs[index + 1]
    growth = math.expm1(negative_step)
    whole = (1 - after) * growth
    if order == 1:
        return _Weights(after / before, -0.5 * whole, following=-0.5 * whole)
    # The two conditions of second order, for what the slopes backwards and forwards count.
    first = growth / negative_step - 1
    second = first / negative_step - 0.5
    ratio = _ratio(log_snrs, index)
    backwards = (first - 2 * second) / (growth * (1 - ratio))
    forwards = first / growth - backwards
    older = -whole * backwards / ratio
    return _Weights(
        after / before, -whole * (1 - forwards) - older, older=older, following=-whole * forwards
    )


def _ratio(log_snrs: list[float], index: int) -> float:
    """The step back to the step ahead, in log-SNR: negative."""
    return (log_snrs[index - 1] - log_snrs[index]) / (log_snrs[index + 1] - log_snrs[index])


def _sum(
    weights: _Weights, sample: Tensor, clean: list[Tensor], following: Tensor | None = None
) -> Tensor:
    result = (sample * weights.sample).add_(clean[0], alpha=weights.newest)
    if weights.older:
        result.add_(clean[1], alpha=weights.older)
    if following is not None:
        result.add_(following, alpha=weights.following)
    return result


def _nearest_sigmas(timesteps: Sequence[int], flow_shift: float) -> list[float]:
    """Of the shifted training levels those that are nearest, in float32 as they were trained."""
    table = np.arange(_TRAIN_STEPS, 0, -1, dtype=np.float32) / _TRAIN_STEPS
    table = flow_shift * table / (1 + (flow_shift - 1) * table)
    levels = (table * _TRAIN_STEPS).astype(np.float64)
    return [float(table[np.abs(levels - timestep).argmin()]) for timestep in timesteps]


def _noise_seed(seed: int) -> int:
    """Another one than the first noise is drawn with: SHA-256 of "few-step noise {seed}"."""
    digest = hashlib.sha256(f"few-step noise {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
