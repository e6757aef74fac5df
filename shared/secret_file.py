"""A secret that the configuration names by its file."""

import re
from pathlib import Path

# It goes into a header.
_ONE_WORD = re.compile(r"[!-~]+")


def secret_in(file: Path) -> str | None:
    """The one word that the file holds; None if it cannot be read, or holds anything else."""
    try:
        word = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return word if _ONE_WORD.fullmatch(word) else None
