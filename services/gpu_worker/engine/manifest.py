"""What a snapshot says about itself: ``manifest.json``. No torch here: it is read before torch is.

A snapshot is a directory:

    manifest.json
    weights.bin            every tensor, on a boundary of 64 bytes
    tokenizer.json
    packages/*.pt2         compiled parts

``python -m services.gpu_worker.engine.manifest SNAPSHOT_DIR`` reads every file: what an image is built with.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from services.gpu_worker.engine.training import Training

FORMAT = 1  # raised whenever an older snapshot could not be used any more
MANIFEST, WEIGHTS, TOKENIZER = "manifest.json", "weights.bin", "tokenizer.json"
ALIGNMENT_BYTES = 64  # a cache line; compiled code expects at least 16


class SnapshotRefused(Exception):
    """This snapshot cannot be used here, and this is why; ends a sentence, names no path."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorEntry(_Entry):
    dtype: str  # "bfloat16"
    shape: tuple[int, ...]
    offset: int  # bytes, in weights.bin


class FileEntry(_Entry):
    size: int  # bytes
    sha256: str


class PackageEntry(_Entry):
    """A compiled part. It is there because it was the faster one when it was made."""

    file: str
    shape: tuple[int, ...]  # of what goes in, where that is fixed
    module_ms: float  # one call of the part's own code, median
    package_ms: float  # one call of the package


class Manifest(_Entry):
    format: int
    promptreel: str
    torch: str
    cuda: str | None
    device: str  # "cpu" or "cuda"
    architecture: str
    dtype: str
    text_float8: bool  # the text encoder's large layers are in float8
    source: dict[str, int]  # the files it was made from: bytes by name
    training: Training
    scheduler: dict[str, Any]  # and the parts' own config.json
    text_encoder: dict[str, Any]
    transformer: dict[str, Any]
    vae: dict[str, Any]
    tensors: dict[str, TensorEntry]
    packages: dict[str, PackageEntry]
    files: dict[str, FileEntry]


def read_manifest(directory: Path) -> Manifest:
    """Raises ``SnapshotRefused``."""
    try:
        text = (directory / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SnapshotRefused("there is no snapshot") from None
    except (OSError, ValueError):
        raise SnapshotRefused("its manifest cannot be read") from None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError:
        raise SnapshotRefused("its manifest is not one of this version of Promptreel") from None
    if manifest.format != FORMAT:
        raise SnapshotRefused("it was made by another version of Promptreel")
    for name, file in manifest.files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != file.size:
            raise SnapshotRefused(f"its {name} is missing or incomplete")
    return manifest


def check_digests(directory: Path, manifest: Manifest) -> None:
    """Reads every file, which takes time. Raises ``SnapshotRefused`` for one that is damaged."""
    for name, file in manifest.files.items():
        if digest_of_file(directory / name) != file.sha256:
            raise SnapshotRefused(f"its {name} is damaged")


def digest_of_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_source(manifest: Manifest, model_dir: Path) -> None:
    """Raises ``SnapshotRefused`` when the model it was made from is there and has changed."""
    if not model_dir.is_dir():
        return
    for name, size in manifest.source.items():
        path = model_dir / name
        if not path.is_file() or path.stat().st_size != size:
            raise SnapshotRefused("the model it was made from has changed since")


if __name__ == "__main__":
    try:
        check_digests(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])))
    except SnapshotRefused as reason:
        sys.exit(f"The snapshot cannot be used: {reason}.")
