"""Wan 2.1 on this machine's own device."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.engine.manifest import (
    WEIGHTS,
    Manifest,
    SnapshotRefused,
    check_source,
    read_manifest,
)
from services.gpu_worker.engine.parallel_read import ParallelRead
from shared.catalog import Model

if TYPE_CHECKING:
    from services.gpu_worker.engine.wan import Wan


def load(
    model: Model,
    model_dir: Path,
    *,
    snapshot_dir: Path | None,
    device: str,
    dtype: str,
    warn: Callable[[str], None],
) -> LoadedModel:
    """From the snapshot if there is one that fits, else from the model's own files.

    Raises ``ModelUnavailable`` when the model cannot be used.
    """
    if snapshot_dir is not None:
        try:
            return _from_snapshot(snapshot_dir, model_dir, device=device, dtype=dtype)
        except SnapshotRefused as reason:
            warn(f"The snapshot is not used: {reason}. `promptreel bake` makes a new one.")
    # Here, not above: the weights of a snapshot are read while torch is imported.
    from services.gpu_worker.engine.wan import load_wan  # noqa: PLC0415

    return load_wan(model_dir, device=device, dtype=dtype, how_to_get=model.how_to_get)


def _from_snapshot(snapshot_dir: Path, model_dir: Path, *, device: str, dtype: str) -> "Wan":
    """Raises ``SnapshotRefused``, and ``ModelUnavailable`` for a device that is not there."""
    manifest = read_manifest(snapshot_dir)
    check_source(manifest, model_dir)
    with _reading(snapshot_dir, manifest) as weights:
        from services.gpu_worker.engine.wan import open_snapshot  # noqa: PLC0415

        return open_snapshot(snapshot_dir, manifest, weights, device=device, dtype=dtype)


def _reading(snapshot_dir: Path, manifest: Manifest) -> ParallelRead:
    try:
        return ParallelRead(snapshot_dir / WEIGHTS, manifest.files[WEIGHTS].size)
    except (OSError, KeyError):
        raise SnapshotRefused(f"its {WEIGHTS} cannot be read") from None
