"""Parts of the model compiled ahead of time, run in place of their modules.

A package takes weights as inputs like everything else: one package serves every block of the
transformer, and no weight lies in memory or in a file twice. Loading one imports no compiler.

A package does not check what it is given. What it was not compiled for goes to the module.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from services.gpu_worker.engine.causal import CausalConv, Past
from services.gpu_worker.engine.decode import Decoder
from services.gpu_worker.engine.transformer import Block, Transformer

BLOCK, PIECE = "block", "piece"
TOKENS_MIN = 2  # a compiler takes a single one for a special case

Package = Callable[[list[Tensor]], list[Tensor]]


def load_package(file: Path) -> Package:
    """Raises ``RuntimeError`` when it is not one for this machine."""
    loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)  # noqa: SLF001 - what torch's own loader calls, which imports the compiler
    run: Package = loader.boxed_run
    return run


def run_blocks_by(package: Package, transformer: Transformer) -> None:
    """From now on the transformer's blocks are run by the package."""
    run_module = transformer.run_block
    weights = {block: list(block.parameters()) for block in transformer.blocks}

    def run(block: Block, *arguments: Tensor | None) -> Tensor:
        given = [argument for argument in arguments if argument is not None]
        tokens, *_ = given
        is_single = tokens.shape[0] == 1 and tokens.shape[1] >= TOKENS_MIN
        if is_single and all(argument.is_contiguous() for argument in given):
            return package([*weights[block], *given])[0]
        return run_module(block, *arguments)

    transformer.run_block = run


def run_pieces_by(package: Package, decoder: Decoder, *, shape: tuple[int, ...]) -> None:
    """From now on pieces of this shape are decoded by the package, once there is a past to all."""
    run_module = decoder.run_piece
    weights = list(decoder.parameters())
    convs = remembering(decoder)

    def run(pictures: Tensor, past: Past) -> Tensor:
        if pictures.shape != shape or any(conv not in past for conv in convs):
            return run_module(pictures, past)
        remembered = [past[conv] for conv in convs]
        frames, *remembered = package([*weights, *remembered, pictures.contiguous()])
        past.update(zip(convs, remembered, strict=True))
        return frames

    decoder.run_piece = run


def remembering(decoder: Decoder) -> list[CausalConv]:
    """The layers that look back, in their order."""
    return [
        layer
        for layer in decoder.modules()
        if isinstance(layer, CausalConv) and layer.frames_remembered
    ]
