"""An environment of its own for each peer, from pinned packages: theirs would argue with ours, and with each other's."""

import hashlib
import subprocess
import venv
from collections.abc import Mapping
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements")
_STAMP = ".installed"


class CannotSetUp(Exception):
    """A peer is not to be had on this machine; the message says why."""


def environment(name: str, folder: Path) -> Path:
    """The python of the peer's environment, made if it is not there or its packages have changed.

    Raises ``CannotSetUp``.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    place = folder / name
    python = place / "bin" / "python"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    stamp = place / _STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return python
    hide_from_git(folder)
    try:
        venv.create(place, clear=True, with_pip=True)
        _install(python, requirements)
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotSetUp(f"its packages cannot be installed: {_reason(error)}") from error
    stamp.write_text(digest)
    return python


def versions(name: str) -> Mapping[str, str]:
    """Of every package of a peer, as they are pinned."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)


def hide_from_git(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")


def _install(python: Path, requirements: Path) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*command, "--requirement", requirements], check=True, capture_output=True, text=True
    )


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """The last line of what pip said is what it stopped at."""
    said = getattr(error, "stderr", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return text.strip().splitlines()[-1]
