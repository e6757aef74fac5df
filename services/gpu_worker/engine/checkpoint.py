"""A directory in the layout of ``Wan-AI/Wan2.1-T2V-1.3B-Diffusers``, read into memory.

Neither diffusers nor transformers is imported, and the network is never used.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from services.gpu_worker.engine import decode, transformer
from services.gpu_worker.engine.decode import Decoder, DecoderConfig
from services.gpu_worker.engine.model import WanModel, filled, unfilled
from services.gpu_worker.engine.text import load_tokenizer
from services.gpu_worker.engine.training import Training, read_training
from services.gpu_worker.engine.transformer import Transformer, TransformerConfig
from services.gpu_worker.engine.umt5 import UMT5Config, UMT5Encoder
from shared.errors import ModelUnavailable

TOKENIZER_FILE = "tokenizer/tokenizer.json"

# Without these nothing can be rendered; a missing weight file is noticed when it is read.
_FILES = (
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    TOKENIZER_FILE,
    "transformer/config.json",
    "vae/config.json",
)
# The stem of a part's weights; a large part is split over several files, named by an index.
_STEMS = {"text_encoder": "model"}
_DEFAULT_STEM = "diffusion_pytorch_model"
# Other weights for the same part, as diffusers names variants.
_DISTILLED = f"transformer/{_DEFAULT_STEM}.distilled.safetensors"


class Checkpoint:
    """A model's files. Raises ``ModelUnavailable``, which says how to get them, when some lack."""

    def __init__(self, directory: Path, *, how_to_get: str) -> None:
        self.directory = directory
        self._how_to_get = how_to_get
        if not (directory / "model_index.json").is_file():
            raise ModelUnavailable(f"The model is not there. {how_to_get}")
        for file in _FILES:
            if not (directory / file).is_file():
                part = file.partition("/")[0]
                raise ModelUnavailable(f"The model's {part} is missing or incomplete. {how_to_get}")
        self.training = read_training(directory, how_to_get=how_to_get)

    def config(self, part: str) -> dict[str, Any]:
        """What the part says of itself. Raises ``ModelUnavailable``."""
        stem = "scheduler_config" if part == "scheduler" else "config"
        return self._read_json(f"{part}/{stem}.json")

    def sizes(self) -> dict[str, int]:
        """The bytes of each file, by its name: when they change, so has the model."""
        files = (path for path in sorted(self.directory.rglob("*")) if path.is_file())
        return {str(path.relative_to(self.directory)): path.stat().st_size for path in files}

    def load(self, *, device: torch.device, dtype: torch.dtype) -> WanModel:
        """Every part, on the device. Raises ``ModelUnavailable``."""
        try:
            return self._load(device, dtype)
        except torch.OutOfMemoryError as error:
            raise ModelUnavailable("The model does not fit into the GPU's memory.") from error
        # Of a library that has read a broken file, or a module given weights that are not its own.
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise self._unreadable() from error

    def _load(self, device: torch.device, dtype: torch.dtype) -> WanModel:
        text_encoder, vae = self.config("text_encoder"), self.config("vae")
        decoder = unfilled(lambda: Decoder(DecoderConfig.from_config(vae)))
        # The authors decode in float32: bfloat16 shows as banding.
        decoder_weights = _cast(self._weights("vae"), torch.device("cpu"), torch.float32)
        prepared = decode.prepare(decoder, decoder_weights)
        return WanModel(
            tokenizer=load_tokenizer(self.directory / TOKENIZER_FILE),
            text_encoder=filled(
                unfilled(lambda: UMT5Encoder(UMT5Config.from_config(text_encoder))),
                # In float16 these products overflow.
                _cast(
                    self._weights("text_encoder"),
                    device,
                    dtype,
                    float32_parts=(".wo.",) if dtype == torch.float16 else (),
                ),
            ),
            transformer=self._transformer(self._weights("transformer"), device, dtype),
            decoder=filled(decoder, {name: part.to(device) for name, part in prepared.items()}),
            scheduler=self.config("scheduler"),
            training=self.training,
            device=device,
            distilled=self._distilled(device, dtype),
        )

    def _distilled(self, device: torch.device, dtype: torch.dtype) -> Transformer | None:
        file = self.directory / _DISTILLED
        if self.training is not Training.BASE or not file.is_file():
            return None
        return self._transformer(load_file(file), device, dtype)

    def _transformer(
        self, weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
    ) -> Transformer:
        config = TransformerConfig.from_config(self.config("transformer"))
        return filled(
            unfilled(lambda: Transformer(config)),
            _cast(
                transformer.fuse(weights), device, dtype, float32_parts=transformer.FLOAT32_PARTS
            ),
        )

    def _weights(self, part: str) -> dict[str, Tensor]:
        """Where they lie in the files: a GPU may not hold them in the precision they are kept in."""
        folder, stem = self.directory / part, _STEMS.get(part, _DEFAULT_STEM)
        names: Iterable[str] = (f"{stem}.safetensors",)
        index = f"{part}/{stem}.safetensors.index.json"
        if (self.directory / index).is_file():
            names = sorted(set(self._read_json(index)["weight_map"].values()))
        weights: dict[str, Tensor] = {}
        for name in names:
            weights |= load_file(folder / name)
        return weights

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.directory / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise self._unreadable() from error
        if not isinstance(content, dict):
            raise self._unreadable()
        return content

    def _unreadable(self) -> ModelUnavailable:
        return ModelUnavailable(f"The model's files cannot be read. {self._how_to_get}")


def _cast(
    weights: Mapping[str, Tensor],
    device: torch.device,
    dtype: torch.dtype,
    *,
    float32_parts: Iterable[str] = (),
) -> dict[str, Tensor]:
    cast = {}
    for name, weight in weights.items():
        kept = any(part in name for part in float32_parts)
        # In memory of its own, on the boundary that torch chooses: sums are added up in another
        # order elsewhere, and a file's own boundaries are any.
        cast[name] = weight.to(device, torch.float32 if kept else dtype, copy=True)
    return cast
