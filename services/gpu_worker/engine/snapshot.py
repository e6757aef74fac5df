"""A snapshot read into memory: what ``promptreel bake`` made of a model, ready in a moment."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from services.gpu_worker.engine.decode import Decoder, DecoderConfig
from services.gpu_worker.engine.device import describe_architecture
from services.gpu_worker.engine.float8 import replace_layers
from services.gpu_worker.engine.manifest import TOKENIZER, Manifest, SnapshotRefused
from services.gpu_worker.engine.model import WanModel, filled, unfilled
from services.gpu_worker.engine.packages import BLOCK, load_package, run_blocks_by, run_pieces_by
from services.gpu_worker.engine.text import load_tokenizer
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig
from services.gpu_worker.engine.umt5 import LARGE_LAYERS, UMT5Config, UMT5Encoder
from services.gpu_worker.engine.weights_file import WeightsFile
from shared.errors import ModelUnavailable

# The parts as their tensors are named in the manifest: "transformer.blocks.0.…".
TEXT_ENCODER, TRANSFORMER, DECODER, EMBEDDING = (
    "text_encoder",
    "transformer",
    "decoder",
    "embedding",
)


def check_fits(manifest: Manifest, device: torch.device, dtype: str) -> None:
    """Raises ``SnapshotRefused`` when it was made for something else than this process."""
    if (manifest.torch, manifest.cuda) != (torch.__version__, torch.version.cuda):
        raise SnapshotRefused(f"it was made with torch {manifest.torch}, not {torch.__version__}")
    if manifest.device != device.type:
        raise SnapshotRefused(f"it was made for {manifest.device}, not for {device.type}")
    found = set(describe_architecture(device).split())
    lacking = [feature for feature in manifest.architecture.split() if feature not in found]
    if lacking:
        raise SnapshotRefused(f"it was made for another architecture ({lacking[0]})")
    if dtype not in ("auto", manifest.dtype):
        raise SnapshotRefused(f"it was made in {manifest.dtype}, not in {dtype}")


def load_snapshot(
    directory: Path, manifest: Manifest, weights: WeightsFile, *, device: torch.device
) -> WanModel:
    """Every part, on the device, those that are compiled run by their packages.

    Raises ``SnapshotRefused`` for damaged files, ``ModelUnavailable`` when memory does not do.
    """
    try:
        tokenizer = load_tokenizer(directory / TOKENIZER)
        tensors = _tensors(manifest, bytes_on(device, weights))
        model = _model(manifest, tokenizer, tensors, device)
        for name, package in manifest.packages.items():
            _use_package(model, name, directory / package.file, package.shape)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable("The model does not fit into the GPU's memory.") from error
    # What a library says of a broken file, or a module of weights that are not its own.
    except (ModelUnavailable, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise SnapshotRefused("its files are damaged") from error
    return model


def bytes_on(device: torch.device, weights: WeightsFile) -> Tensor:
    """(size of the file,) uint8, on the device. Raises ``OSError``."""
    if device.type == "cpu":
        return torch.frombuffer(weights.map(), dtype=torch.uint8)
    whole = torch.empty(weights.size_bytes, dtype=torch.uint8, device=device)

    def copy(start: int, piece: memoryview) -> None:
        pinned = torch.frombuffer(piece, dtype=torch.uint8).pin_memory()
        whole[start : start + len(piece)].copy_(pinned)

    weights.read_into(copy)
    return whole


def _tensors(manifest: Manifest, whole: Tensor) -> dict[str, Tensor]:
    """Views of the one memory."""
    tensors = {}
    for name, entry in manifest.tensors.items():
        dtype = getattr(torch, entry.dtype)
        size = math.prod(entry.shape) * dtype.itemsize
        tensors[name] = whole[entry.offset : entry.offset + size].view(dtype).view(entry.shape)
    return tensors


def _model(
    manifest: Manifest, tokenizer: Tokenizer, tensors: Mapping[str, Tensor], device: torch.device
) -> WanModel:
    def part(name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {
            full.removeprefix(prefix): tensor
            for full, tensor in tensors.items()
            if full.startswith(prefix)
        }

    transformer = TransformerConfig.from_config(manifest.transformer)
    decoder = DecoderConfig.from_config(manifest.vae)
    return WanModel(
        tokenizer=tokenizer,
        text_encoder=filled(unfilled(lambda: _text_encoder(manifest)), part(TEXT_ENCODER)),
        transformer=filled(unfilled(lambda: Transformer(transformer)), part(TRANSFORMER)),
        decoder=filled(unfilled(lambda: Decoder(decoder)), part(DECODER)),
        scheduler=manifest.scheduler,
        training=manifest.training,
        device=device,
        embeddings=part(EMBEDDING),
    )


def _text_encoder(manifest: Manifest) -> UMT5Encoder:
    encoder = UMT5Encoder(UMT5Config.from_config(manifest.text_encoder))
    if manifest.text_float8:
        replace_layers(encoder, LARGE_LAYERS, getattr(torch, manifest.dtype))
    return encoder


def _use_package(model: WanModel, name: str, file: Path, shape: tuple[int, ...]) -> None:
    package = load_package(file)
    if name == BLOCK:
        run_blocks_by(package, model.transformer)
    else:
        run_pieces_by(package, model.decoder, shape=shape)
