"""Wan 2.1 on this machine's own device."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from services.gpu_worker.backends.backend import LoadedModel
from services.gpu_worker.engine.companion_files import CompanionFiles
from services.gpu_worker.engine.manifest import (
    WEIGHTS,
    Manifest,
    SnapshotRefused,
    check_source,
    read_manifest,
)
from services.gpu_worker.engine.training import check_training
from services.gpu_worker.engine.weights_file import WeightsFile
from services.gpu_worker.protocol import Load
from shared.catalog import Model
from shared.errors import ModelUnavailable

if TYPE_CHECKING:
    from services.gpu_worker.engine.wan import Wan


def load(model: Model, order: Load, *, warn: Callable[[str], None]) -> LoadedModel:
    """From the snapshot if there is one that fits, else from the model's own files.

    Raises ``ModelUnavailable`` when the model cannot be used, or not by the preset.
    """
    if order.preset and order.tiny_decoder is None:
        _check_decoder(model, order.preset)
    how_to_get = model.how_to_get(order.preset or model.default_preset)
    companion = CompanionFiles(
        order.image_to_video_dir,
        key=f"models.{model.name}.image_to_video",
        when_asked=order.image_to_video_when_asked,
        holds_first_frame=model.holds_first_frame,
    )
    wan = _from_snapshot(order, companion, warn) if order.snapshot_dir is not None else None
    if wan is None:
        # Here, not above: the weights of a snapshot are read while torch is imported.
        from services.gpu_worker.engine.wan import load_wan  # noqa: PLC0415

        wan = load_wan(
            order.model_dir,
            device=order.device,
            dtype=order.dtype,
            how_to_get=how_to_get,
            tiny_decoder=order.tiny_decoder,
            companion=companion,
        )
    if order.preset is not None:
        scheduler = model.presets[order.preset].scheduler
        check_training(wan.trainings, scheduler, how_to_get=how_to_get)
    return wan


def _from_snapshot(
    order: Load, companion: CompanionFiles, warn: Callable[[str], None]
) -> "Wan | None":
    """None, and a warning, when the snapshot is refused."""
    assert order.snapshot_dir is not None  # noqa: S101 - the caller has looked
    try:
        manifest = read_manifest(order.snapshot_dir)
        check_source(manifest, order.model_dir)
        with _reading(order.snapshot_dir, manifest) as weights:
            from services.gpu_worker.engine.wan import open_snapshot  # noqa: PLC0415

            return open_snapshot(
                order.snapshot_dir,
                manifest,
                weights,
                device=order.device,
                dtype=order.dtype,
                tiny_decoder=order.tiny_decoder,
                companion=companion,
            )
    except SnapshotRefused as reason:
        warn(f"The snapshot is not used: {reason}. `promptreel bake` makes a new one.")
        return None


def _check_decoder(model: Model, preset: str) -> None:
    if model.presets[preset].decoder == "tiny":
        raise ModelUnavailable(
            f"The preset {preset} needs a tiny decoder: name its weights as "
            f"models.{model.name}.tiny_decoder in the configuration."
        )


def _reading(snapshot_dir: Path, manifest: Manifest) -> WeightsFile:
    try:
        return WeightsFile(snapshot_dir / WEIGHTS, manifest.files[WEIGHTS].size)
    except (OSError, KeyError):
        raise SnapshotRefused(f"its {WEIGHTS} cannot be read") from None
