"""Compiles parts of a model into packages, by AOTInductor. Takes a C++ compiler, or Triton.

Imported by ``promptreel bake`` alone: it brings torch's whole compiler with it.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._inductor.exc import InductorError
from torch.func import functional_call

from services.gpu_worker.engine.causal import Past
from services.gpu_worker.engine.decode import Decoder, latent_frames_at_a_time
from services.gpu_worker.engine.denoise import attention_for
from services.gpu_worker.engine.packages import TOKENS_MIN, load_package, remembering
from services.gpu_worker.engine.text import TOKENS_MAX
from services.gpu_worker.engine.transformer import Block, Transformer

_TOKENS_MAX = 2**20  # of a video
_ROUNDS = 7


class CannotCompile(Exception):
    """Why there is no package: in the compiler's words."""


@dataclass(frozen=True)
class Compiled:
    """A package, and how long it and the module take for the same call, in milliseconds."""

    package_ms: float
    module_ms: float
    shape: tuple[int, ...] = ()  # of what goes in, where that is fixed

    @property
    def is_faster(self) -> bool:
        return self.package_ms < self.module_ms


def compile_block(transformer: Transformer, latents_shape: tuple[int, ...], file: Path) -> Compiled:
    """One block, for one prompt and any number of tokens; timed at latents of this shape.

    Raises ``CannotCompile``.
    """
    block = cast("Block", transformer.blocks[0])
    device, dtype = transformer.proj_out.weight.device, transformer.dtype
    embedding = torch.zeros(1, 20, transformer.config.text_dim, dtype=dtype, device=device)
    texts = transformer.read([embedding])
    positions = transformer.positions(torch.empty(latents_shape, device=device))
    width = transformer.config.dim
    tokens = torch.randn(1, len(positions), width, device=device).to(dtype)
    changes = torch.randn(6, width, device=device).to(dtype)
    arguments = (tokens, changes, *texts.keys_and_values[0], texts.weights, positions)
    weights = list(block.parameters())

    many = torch.export.Dim("tokens", min=TOKENS_MIN, max=_TOKENS_MAX)
    by_text: list[dict[int, Any] | None] = [None, None, None]
    if texts.weights is not None:
        read = torch.export.Dim("read", min=2, max=TOKENS_MAX + 1)
        by_text = [{2: read}, {2: read}, {3: read}]
    shapes = {"weights": [None] * len(weights), "arguments": ({1: many}, None, *by_text, {0: many})}
    with attention_for(device):
        _compile(_BlockCall(block), (weights, *arguments), shapes, file)
        given = [argument for argument in arguments if argument is not None]
        return _timed(file, [*weights, *given], lambda: block(*arguments))


def compile_piece(decoder: Decoder, height: int, width: int, file: Path) -> Compiled:
    """A later piece of latents of this size. Raises ``CannotCompile``."""
    device, channels = decoder.conv_in.weight.device, decoder.config.latent_channels
    frames = latent_frames_at_a_time(height * width)
    past: Past = {}
    decoder.first_piece(torch.randn(1, height, width, channels, device=device), past)
    pictures = torch.randn(frames, height, width, channels, device=device)
    decoder.later_piece(pictures, past)
    weights = list(decoder.parameters())
    remembered = [past[conv] for conv in remembering(decoder)]
    _compile(_PieceCall(decoder), (weights, remembered, pictures), None, file)
    timed = _timed(
        file,
        [*weights, *remembered, pictures],
        lambda: decoder.later_piece(pictures, dict(past)),
    )
    return replace(timed, shape=tuple(pictures.shape))


class _BlockCall(nn.Module):
    """A block whose weights are arguments."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self._names = [name for name, _ in block.named_parameters()]
        self._block = (block,)  # in a tuple it is no submodule, and its weights no constants

    def forward(self, weights: list[Tensor], *arguments: Tensor | None) -> Tensor:
        by_name = dict(zip(self._names, weights, strict=True))
        result: Tensor = functional_call(self._block[0], by_name, arguments)
        return result


class _PieceCall(nn.Module):
    """A decoder whose weights and memory are arguments; gives the frames and the new memory."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self._names = [f"decoder.{name}" for name, _ in decoder.named_parameters()]
        self._piece = (_LaterPiece(decoder),)
        self._convs = (remembering(decoder),)

    def forward(
        self, weights: list[Tensor], remembered: list[Tensor], pictures: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        (convs,) = self._convs
        past = dict(zip(convs, remembered, strict=True))
        by_name = dict(zip(self._names, weights, strict=True))
        frames = functional_call(self._piece[0], by_name, (pictures, past))
        return frames, [past[conv] for conv in convs]


class _LaterPiece(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, pictures: Tensor, past: Past) -> Tensor:
        return self.decoder.later_piece(pictures, past)


def _compile(call: nn.Module, arguments: tuple[Any, ...], shapes: Any, file: Path) -> None:  # noqa: ANN401 - as torch.export takes them
    with warnings.catch_warnings():
        # Torch's, about itself.
        warnings.simplefilter("ignore")
        exported = torch.export.export(call, arguments, dynamic_shapes=shapes, strict=False)
        try:
            torch._inductor.aoti_compile_and_package(exported, package_path=str(file))  # noqa: SLF001 - the name it is documented by
        except InductorError as error:
            raise CannotCompile(str(error).strip().splitlines()[0]) from error


def _timed(file: Path, inputs: list[Tensor], module: Callable[[], Tensor]) -> Compiled:
    """Taken in turn, so that what disturbs the machine disturbs both."""
    package = load_package(file)
    package_ms, module_ms = [], []
    for _ in range(_ROUNDS):
        package_ms.append(_milliseconds(lambda: package(list(inputs))))
        module_ms.append(_milliseconds(module))
    # The first calls choose kernels.
    return Compiled(statistics.median(package_ms[2:]), statistics.median(module_ms[2:]))


def _milliseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) * 1000
