"""Where a stage stands: written whole or not at all, so that a killed training goes on from there."""

import time
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


def save_progress(
    file: Path,
    progress: Progress,
    model: nn.Module,
    optimizer: Optimizer,
) -> None:
    state = {
        "progress": {
            "step": progress.step,
            "seconds": progress.seconds,
            "history": progress.history,
        },
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    unfinished = file.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(file)


def load_progress(file: Path, model: nn.Module, optimizer: Optimizer) -> Progress | None:
    """None where nothing has been saved yet."""
    if not file.is_file():
        return None
    state = torch.load(file, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def read_history(file: Path) -> dict[str, list[float]]:
    """What a stage has measured at each step."""
    history: dict[str, list[float]] = torch.load(file, weights_only=True, map_location="cpu")[
        "progress"
    ]["history"]
    return history
