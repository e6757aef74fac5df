"""Where a stage stands: written whole or not at all, so that a killed training goes on from there."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

_RECENT = 50


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
    optimizer: torch.optim.Optimizer,
    **more: Mapping[str, Any],
) -> None:
    state = {
        "progress": {
            "step": progress.step,
            "seconds": progress.seconds,
            "history": progress.history,
        },
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "more": more,
    }
    unfinished = file.with_suffix(".part")
    torch.save(state, unfinished)
    os.replace(unfinished, file)


def load_progress(
    file: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """None where nothing has been saved yet."""
    if not file.is_file():
        return None
    state = torch.load(file, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])
