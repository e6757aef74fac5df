"""A directory that is complete or as it was before: never half of a new one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacement(directory: Path) -> Iterator[Path]:
    """A name to build a directory at, which takes the place of ``directory`` when all went well."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the renames stay within one file system.
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        built = Path(scratch) / "built"
        yield built
        if directory.exists():
            directory.rename(Path(scratch) / "outdated")
        built.rename(directory)


def is_occupied(directory: Path) -> bool:
    """Something is there that is not an empty directory."""
    return directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
