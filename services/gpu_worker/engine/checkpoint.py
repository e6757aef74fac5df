"""A directory in the layout of ``Wan-AI/Wan2.1-T2V-1.3B-Diffusers``, read into memory.

Never uses the network.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from shared.errors import ModelUnavailable

# Without these the libraries go on with defaults of their own and render nonsense; a missing
# weight file they do notice. A tokenizer comes in either of its two formats.
_PARTS = {
    "scheduler": ("scheduler_config.json",),
    "text_encoder": ("config.json",),
    "tokenizer": ("tokenizer.json", "spiece.model"),
    "transformer": ("config.json",),
    "vae": ("config.json",),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_pipeline(model_dir: Path, *, device: str, dtype: str, how_to_get: str) -> WanPipeline:
    """Load every part of the pipeline. ``device`` and ``dtype`` may be "auto".

    Raises ``ModelUnavailable``, which says how to get the model, when a file is missing or broken.
    """
    _check_complete(model_dir, how_to_get)
    where = _resolve_device(device)
    kind = _resolve_dtype(dtype, where)
    # A render process writes logs, not to a terminal: bars would be noise there.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    files = {"local_files_only": True, "use_safetensors": True}
    try:
        # The authors decode in float32: bfloat16 shows as banding.
        vae = AutoencoderKLWan.from_pretrained(
            model_dir, subfolder="vae", dtype=torch.float32, **files
        )
        pipeline = WanPipeline.from_pretrained(model_dir, vae=vae, dtype=kind, **files)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelUnavailable(f"The model's files cannot be read. {how_to_get}") from error
    try:
        pipeline.to(where)
    except torch.OutOfMemoryError as error:
        raise ModelUnavailable("The model does not fit into the GPU's memory.") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_complete(model_dir: Path, how_to_get: str) -> None:
    if not (model_dir / "model_index.json").is_file():
        raise ModelUnavailable(f"The model is not there. {how_to_get}")
    for part, files in _PARTS.items():
        if not any((model_dir / part / file).is_file() for file in files):
            raise ModelUnavailable(f"The model's {part} is missing or incomplete. {how_to_get}")


def _resolve_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelUnavailable('There is no CUDA device here: set the device to "auto" or "cpu".')
    return torch.device(name)


def _resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return _DTYPES[name]
