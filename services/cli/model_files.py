"""The model's files: are they there, and can we make them?"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from services.gpu_worker.engine.demo_model import MARKER as DEMO_MARKER
from services.gpu_worker.engine.manifest import SnapshotRefused, check_digests, read_manifest
from shared.catalog import find_model
from shared.config import Config
from shared.errors import ModelUnavailable

DEMO_MODEL, REAL_MODEL = "wan2.1-demo", "wan2.1"


def has_model(directory: Path) -> bool:
    """A pipeline in diffusers' layout is there; whether it loads, the worker will say."""
    return (directory / "model_index.json").is_file()


def make_demo_model(directory: Path, *, seed: int = 0) -> None:
    """Build the demo model in a process of its own. Raises ``ModelUnavailable``."""
    _needs_torch("Making the demo model")
    command = (sys.executable, "-m", "services.gpu_worker.engine.demo_model", str(directory))
    done = subprocess.run([*command, "--seed", str(seed)], check=False)  # noqa: S603 - our own module
    if done.returncode != 0:
        raise ModelUnavailable(f"The demo model could not be made in {directory}.")


def bake(
    model_dir: Path,
    snapshot_dir: Path,
    *,
    model: str | None,
    device: str,
    dtype: str,
    text_float8: bool,
    compiles: bool,
) -> None:
    """Make a snapshot of a model in a process of its own. Raises ``ModelUnavailable``."""
    _needs_torch("Baking")
    name = model or (DEMO_MODEL if (model_dir / DEMO_MARKER).is_file() else REAL_MODEL)
    command = [sys.executable, "-m", "services.gpu_worker.engine.bake", "--model", name]
    command += ["--device", device, "--dtype", dtype, *(["--no-compile"] if not compiles else [])]
    command += ["--text-float8"] if text_float8 else []
    command += [str(model_dir), str(snapshot_dir)]
    with tempfile.TemporaryDirectory() as scratch:
        # What its compiler keeps for another time has none here.
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": scratch}
        done = subprocess.run(command, check=False, env=environment)  # noqa: S603 - our own module
    if done.returncode != 0:
        raise ModelUnavailable(f"No snapshot of {model_dir} could be made.")


def verify_snapshot(directory: Path) -> None:
    """Raises ``ModelUnavailable`` when the snapshot is not whole."""
    try:
        check_digests(directory, read_manifest(directory))
    except SnapshotRefused as reason:
        raise ModelUnavailable(f"The snapshot cannot be used: {reason}.") from None


def _needs_torch(what: str) -> None:
    if importlib.util.find_spec("torch") is None:
        raise ModelUnavailable(f"{what} needs the worker: install promptreel[worker].")


def _is_complete(config: Config) -> bool:
    """With what begins a clip with a given picture, if one will be asked for."""
    companion = config.image_to_video_dir
    return has_model(config.model_dir) and (companion is None or has_model(companion))


def ensure_model(config: Config) -> None:
    """Make the demo model if it is the one to render with and missing. Raises ``ModelUnavailable``."""
    if "wan2.1" not in config.backends or _is_complete(config):
        return
    if config.render.model == DEMO_MODEL:
        make_demo_model(config.model_dir)
        return
    if has_model(config.model_dir):
        raise ModelUnavailable(
            f"No model that begins a clip with a picture is in {config.image_to_video_dir}.\n"
            f"Download Wan-AI/Wan2.1-VACE-1.3B-diffusers from the Hugging Face hub into the directory "
            f"named by models.{config.render.model}.image_to_video in the configuration."
        )
    raise ModelUnavailable(
        f"The model {config.render.model} is not in {config.model_dir}.\n"
        f"{find_model(config.render.model).how_to_get(config.render.preset)}"
    )
