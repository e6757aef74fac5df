"""Makes a snapshot of a model: what a cold worker need not do any more, done once.

    python -m services.gpu_worker.engine.bake MODEL_DIR SNAPSHOT_DIR --model wan2.1

Weights are cast, fused and laid out as they are used; the negative prompt is read; the parts that
are worth it are compiled for the device at hand, and so is the snapshot made for nothing else.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

from services.gpu_worker.engine.checkpoint import TOKENIZER_FILE, Checkpoint
from services.gpu_worker.engine.compiling import (
    CannotCompile,
    Compiled,
    compile_block,
    compile_piece,
)
from services.gpu_worker.engine.device import describe_architecture, resolve_device, resolve_dtype
from services.gpu_worker.engine.float8 import quantize
from services.gpu_worker.engine.manifest import (
    ALIGNMENT_BYTES,
    FORMAT,
    MANIFEST,
    TOKENIZER,
    WEIGHTS,
    FileEntry,
    Manifest,
    PackageEntry,
    TensorEntry,
    digest_of_file,
)
from services.gpu_worker.engine.model import WanModel
from services.gpu_worker.engine.packages import BLOCK, PIECE
from services.gpu_worker.engine.replacement import is_occupied, replacement
from services.gpu_worker.engine.snapshot import DECODER, EMBEDDING, TEXT_ENCODER, TRANSFORMER
from services.gpu_worker.engine.text import TextEncoder, digest_of
from services.gpu_worker.engine.umt5 import LARGE_LAYERS
from shared.catalog import Model, find_model
from shared.errors import ConfigurationError, PromptreelError

Report = Callable[[str], None]


def bake(
    model: Model,
    model_dir: Path,
    snapshot_dir: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    text_float8: bool = False,
    compiles: bool = True,
    is_worth_it: Callable[[Compiled], bool] = lambda compiled: compiled.is_faster,
    report: Report = lambda _: None,
) -> None:
    """A complete snapshot is in ``snapshot_dir`` afterwards, or nothing has changed there.

    One that is already there is replaced. Raises ``ModelUnavailable`` for a model that cannot be
    read, ``ConfigurationError`` when the directory holds anything but a snapshot.
    """
    if is_occupied(snapshot_dir) and not (snapshot_dir / MANIFEST).is_file():
        problem = "it holds something else than a snapshot; name another directory"
        raise ConfigurationError(snapshot_dir, [("", problem)])
    where = resolve_device(device)
    checkpoint = Checkpoint(model_dir, how_to_get=model.how_to_get(model.default_preset))
    report("Reading the model ...")
    loaded = checkpoint.load(device=where, dtype=resolve_dtype(dtype, where))
    with replacement(snapshot_dir) as baked, torch.inference_mode():
        baked.mkdir()
        report("Writing its weights ...")
        shutil.copyfile(model_dir / TOKENIZER_FILE, baked / TOKENIZER)
        weights = _weights(loaded, model, text_float8=text_float8)
        tensors = _write_weights(weights, baked / WEIGHTS)
        packages = _compile(loaded, model, baked, is_worth_it, report) if compiles else {}
        _write_manifest(baked, checkpoint, loaded, tensors, packages, text_float8=text_float8)
    report("The snapshot is ready.")


def _weights(loaded: WanModel, model: Model, *, text_float8: bool) -> dict[str, Tensor]:
    negative = model.negative_prompt
    embedding = TextEncoder(loaded.tokenizer, loaded.text_encoder).encode(negative)
    text_weights = loaded.text_encoder.state_dict()
    if text_float8:
        text_weights = quantize(text_weights, LARGE_LAYERS)
    parts = {
        TEXT_ENCODER: text_weights,
        TRANSFORMER: loaded.transformer.state_dict(),
        DECODER: loaded.decoder.state_dict(),
        EMBEDDING: {digest_of(negative): embedding},
    }
    return {
        f"{part}.{name}": tensor
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def _write_weights(tensors: Mapping[str, Tensor], file: Path) -> dict[str, TensorEntry]:
    entries = {}
    with file.open("wb") as out:
        for name, tensor in tensors.items():
            out.write(b"\0" * (-out.tell() % ALIGNMENT_BYTES))
            entries[name] = TensorEntry(
                dtype=str(tensor.dtype).removeprefix("torch."),
                shape=tuple(tensor.shape),
                offset=out.tell(),
            )
            flat = tensor.detach().contiguous().cpu().view(-1).view(torch.uint8)
            out.write(flat.numpy().data)
    return entries


def _compile(
    loaded: WanModel,
    model: Model,
    baked: Path,
    is_worth_it: Callable[[Compiled], bool],
    report: Report,
) -> dict[str, PackageEntry]:
    """The packages that are worth it."""
    (baked / "packages").mkdir()
    decoder = loaded.decoder.config
    height = model.native_size.height // decoder.pixel_stride
    width = model.native_size.width // decoder.pixel_stride
    frames = (model.frames(model.max_duration_seconds) - 1) // decoder.frame_stride + 1
    latents = (1, loaded.transformer.config.channels, frames, height, width)
    makers: dict[str, Callable[[Path], Compiled]] = {
        BLOCK: lambda file: compile_block(loaded.transformer, latents, file),
        PIECE: lambda file: compile_piece(loaded.decoder, height, width, file),
    }
    packages = {}
    for number, (name, make) in enumerate(makers.items(), start=1):
        report(f"Compiling {number} of {len(makers)}: {name}, a minute or more ...")
        file = baked / "packages" / f"{name}.pt2"
        try:
            compiled = make(file)
        except CannotCompile as reason:
            report(f"{name}: left as it is, for it could not be compiled: {reason}")
            continue
        times = f"{compiled.package_ms:.1f} ms against {compiled.module_ms:.1f} ms"
        if is_worth_it(compiled):
            report(f"{name}: compiled, {times}")
            packages[name] = PackageEntry(
                file=str(file.relative_to(baked)),
                shape=compiled.shape,
                module_ms=round(compiled.module_ms, 3),
                package_ms=round(compiled.package_ms, 3),
            )
        else:
            report(f"{name}: left as it is, compiled it takes {times}")
            file.unlink()
    return packages


def _write_manifest(
    baked: Path,
    checkpoint: Checkpoint,
    loaded: WanModel,
    tensors: dict[str, TensorEntry],
    packages: dict[str, PackageEntry],
    *,
    text_float8: bool,
) -> None:
    files = [path for path in sorted(baked.rglob("*")) if path.is_file()]
    manifest = Manifest(
        format=FORMAT,
        promptreel=metadata.version("promptreel"),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        device=loaded.device.type,
        architecture=describe_architecture(loaded.device),
        dtype=str(loaded.transformer.dtype).removeprefix("torch."),
        text_float8=text_float8,
        source=checkpoint.sizes(),
        training=checkpoint.training,
        **{
            part: checkpoint.config(part)
            for part in ("scheduler", "text_encoder", "transformer", "vae")
        },
        tensors=tensors,
        packages=packages,
        files={str(path.relative_to(baked)): _entry(path) for path in files},
    )
    (baked / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _entry(file: Path) -> FileEntry:
    return FileEntry(size=file.stat().st_size, sha256=digest_of_file(file))


def main() -> int:
    """What the command line starts; 1 when there is no snapshot, and why is said."""
    parser = argparse.ArgumentParser(description="Prepare a model for a quick start.")
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("snapshot_dir", type=Path)
    parser.add_argument("--model", required=True, help="its name in the catalog")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--text-float8", action="store_true")
    parser.add_argument("--no-compile", action="store_true")
    arguments = parser.parse_args()
    try:
        bake(
            find_model(arguments.model),
            arguments.model_dir,
            arguments.snapshot_dir,
            device=arguments.device,
            dtype=arguments.dtype,
            text_float8=arguments.text_float8,
            compiles=not arguments.no_compile,
            report=_say,
        )
    except PromptreelError as error:
        _say(error.message)
        return 1
    return 0


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
