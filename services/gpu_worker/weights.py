"""A model's files by the commit they are from and by their digests: recorded, fetched, checked.

    python -m services.gpu_worker.weights record REPOSITORY COMMIT MANIFEST
    python -m services.gpu_worker.weights fetch MANIFEST DIRECTORY
    python -m services.gpu_worker.weights check MANIFEST DIRECTORY

A manifest is what somebody has looked at and committed: from then on a byte that differs is refused,
whoever serves it. Nothing of ours is imported: an image that fetches has this file alone, and a change of any
other fetches no gigabytes again.
"""

import argparse
import glob
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

# The layout of diffusers; pictures and words about the model stay where they are.
_PARTS = (
    "model_index.json",
    "scheduler/*",
    "text_encoder/*",
    "tokenizer/*",
    "transformer/*",
    "vae/*",
)
_HUBS_NOTES = ".cache"  # beside what it downloads

Report = Callable[[str], None]


class WeightsRefused(Exception):
    """These files are not what the manifest says, or cannot be had; the message says which and why."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Entry):
    size: int = Field(ge=0)  # bytes
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Entry):
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")  # of the Hugging Face hub
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]  # a branch or a tag may move
    files: Mapping[str, File] = Field(min_length=1)


def record(repository: str, commit: str, file: Path) -> Manifest:
    """Write the manifest of a commit. Raises ``WeightsRefused``.

    Of large files the hub itself knows the digests; small ones are read for theirs.
    """
    if file.exists():
        raise WeightsRefused(
            f"{file} is there already: remove it to trust other files from now on."
        )
    try:
        known = HfApi().model_info(repository, revision=commit, files_metadata=True)
        if known.sha != commit:
            raise WeightsRefused(f"{commit} is not a commit: name that of today, {known.sha}.")
        siblings = [sibling for sibling in known.siblings or () if _is_part(sibling.rfilename)]
        with tempfile.TemporaryDirectory() as scratch:
            files = {
                sibling.rfilename: File(size=sibling.lfs.size, sha256=sibling.lfs.sha256)
                if sibling.lfs is not None
                else _entry(
                    Path(
                        hf_hub_download(
                            repository, sibling.rfilename, revision=commit, local_dir=scratch
                        )
                    )
                )
                for sibling in siblings
            }
        manifest = Manifest(repository=repository, commit=commit, files=dict(sorted(files.items())))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsRefused(f"{repository} could not be asked: {error}") from error
    except ValidationError as error:
        raise WeightsRefused(f"{repository} has no model in diffusers' layout.") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def fetch(file: Path, directory: Path) -> Manifest:
    """Exactly the files of the manifest are in the directory afterwards. Raises ``WeightsRefused``."""
    manifest = read(file)
    try:
        snapshot_download(
            manifest.repository,
            revision=manifest.commit,
            local_dir=directory,
            allow_patterns=[glob.escape(name) for name in manifest.files],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsRefused(f"{manifest.repository} could not be fetched: {error}") from error
    shutil.rmtree(directory / _HUBS_NOTES, ignore_errors=True)
    check(file, directory)
    return manifest


def check(file: Path, directory: Path) -> None:
    """Reads every byte. Raises ``WeightsRefused``, which names every file that is not as it should be."""
    manifest = read(file)
    there = {
        str(path.relative_to(directory)): path for path in directory.rglob("*") if not path.is_dir()
    }
    problems = [f"{name} is not in the manifest" for name in sorted(there.keys() - manifest.files)]
    for name, entry in manifest.files.items():
        if name not in there:
            problems.append(f"{name} is missing")
        elif _entry(there[name]) != entry:
            problems.append(f"{name} has other bytes")
    if problems:
        raise WeightsRefused(f"{directory} is not what {file} says: {'; '.join(problems)}.")


def read(file: Path) -> Manifest:
    """Raises ``WeightsRefused``; when there is none, it says how to make one."""
    try:
        return Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsRefused(
            f"There is no manifest {file}: nobody has said yet which bytes to trust. "
            "Write it with `promptreel weights record REPOSITORY COMMIT FILE`, look at it, commit it."
        ) from None
    except (OSError, ValueError) as error:
        raise WeightsRefused(f"{file} is not a manifest of weights.") from error


def _is_part(name: str) -> bool:
    return any(fnmatch(name, part) for part in _PARTS)


def _entry(path: Path) -> File:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return File(size=path.stat().st_size, sha256=digest)


def main() -> int:
    """1 when something is refused, and why is said."""
    parser = argparse.ArgumentParser(description="A model's files, by their digests.")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="write the manifest of a commit")
    recording.add_argument("repository")
    recording.add_argument("commit")
    recording.add_argument("manifest", type=Path)
    for name, what in (("fetch", "download and check"), ("check", "compare what is there")):
        command = commands.add_parser(name, help=what)
        command.add_argument("manifest", type=Path)
        command.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "record":
            record(arguments.repository, arguments.commit, arguments.manifest)
        elif arguments.command == "fetch":
            fetch(arguments.manifest, arguments.directory)
        else:
            check(arguments.manifest, arguments.directory)
    except WeightsRefused as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
