"""Wan 2.1 on this machine's own device."""

from pathlib import Path

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.engine.wan import load_wan
from shared.catalog import Model


def load(model: Model, model_dir: Path, *, device: str, dtype: str) -> LoadedModel:
    """Raises ``ModelUnavailable`` when the model cannot be used."""
    return load_wan(model_dir, device=device, dtype=dtype, how_to_get=model.how_to_get)
