"""A stage's steps, and where it stands: written whole or not at all, so that a killed training goes on from there."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

_RECENT = 50


class Optimizer(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass
class Progress:
    """Steps that are done, and what was measured at each."""

    step: int = 0
    seconds: float = 0.0
    history: dict[str, list[float]] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)

    def note(self, **measured: float) -> None:
        for name, value in measured.items():
            self.history.setdefault(name, []).append(value)
        self.step += 1
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now

    def recent(self) -> str:
        parts = []
        for name, values in self.history.items():
            newest = values[-_RECENT:]
            parts.append(f"{name} {sum(newest) / len(newest):.4f}")
        return ", ".join([*parts, f"{self.seconds:.0f} s"])


class Stage:
    """Goes on where it was stopped; what ``report`` raises stops it, and nothing saved is lost."""

    def __init__(
        self,
        name: str,
        directory: Path,
        model: nn.Module,
        optimizer: Optimizer,
        report: Callable[[str], None],
    ) -> None:
        self._name, self._file = name, directory / f"{name.replace(' ', '_')}.pt"
        self._model, self._optimizer, self._report = model, optimizer, report
        self._progress = Progress()
        self.is_new = not self._file.is_file()
        if not self.is_new:
            self._load()

    @property
    def step(self) -> int:
        """How many are done."""
        return self._progress.step

    def run(self, learn: Callable[[], dict[str, float]], *, steps: int, save_every: int) -> None:
        """``learn`` does one step and says what it has measured."""
        progress = self._progress
        while progress.step < steps:
            progress.note(**learn())
            if progress.step % save_every == 0 or progress.step == steps:
                self._save()
                self._report(f"{self._name} {progress.step}/{steps} {progress.recent()}")

    def _save(self) -> None:
        progress = self._progress
        state = {
            "progress": {
                "step": progress.step,
                "seconds": progress.seconds,
                "history": progress.history,
            },
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        unfinished = self._file.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(self._file)

    def _load(self) -> None:
        state = torch.load(self._file, weights_only=True, map_location="cpu")
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._progress = Progress(**state["progress"])


def generator_of(seed: int, step: int) -> torch.Generator:
    """A step's own chances: the same whether the training was stopped before it or not."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def read_history(file: Path) -> dict[str, list[float]]:
    """What a stage has measured at each step."""
    history: dict[str, list[float]] = torch.load(file, weights_only=True, map_location="cpu")[
        "progress"
    ]["history"]
    return history
