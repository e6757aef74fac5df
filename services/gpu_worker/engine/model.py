"""The parts of one Wan 2.1 in memory, wherever they were read from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from services.gpu_worker.engine.decode import Decoder
from services.gpu_worker.engine.training import Training
from services.gpu_worker.engine.transformer import Transformer
from services.gpu_worker.engine.umt5 import UMT5Encoder

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class WanModel:
    """All on one device, ready to compute."""

    tokenizer: Tokenizer
    text_encoder: UMT5Encoder
    transformer: Transformer
    decoder: Decoder
    scheduler: Mapping[str, Any]  # as in scheduler_config.json
    training: Training
    device: torch.device
    # Of prompts that were read ahead, by their digest (text.digest_of).
    embeddings: Mapping[str, Tensor] = field(default_factory=dict)
    distilled: Transformer | None = None  # for a few steps, where it comes beside the other one

    @property
    def trainings(self) -> frozenset[Training]:
        """What there are weights for."""
        beside = () if self.distilled is None else (Training.DISTILLED,)
        return frozenset((self.training, *beside))


def unfilled(make: Callable[[], Module]) -> Module:
    """A module without weights: none are drawn only to be thrown away."""
    with torch.device("meta"), _NothingDrawn():
        return make()


class _NothingDrawn(TorchFunctionMode):
    """Skips torch.nn.init, which on the meta device would import torch's compiler for a second."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def filled(module: Module, weights: Mapping[str, Tensor]) -> Module:
    """The module with these weights, not copies. Raises ``RuntimeError`` unless all fit."""
    module.load_state_dict(weights, strict=True, assign=True)
    return module.requires_grad_(False).eval()
