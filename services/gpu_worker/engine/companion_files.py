"""Which model begins segments with a picture, the companion of the one that renders from words alone."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CompanionFiles:
    """Where it is, and how it is used."""

    directory: Path | None = None  # None: no segment can begin with a picture
    key: str = "models.<name>.image_to_video"  # of the configuration, where the directory is named
    when_asked: bool = False  # loaded by the first segment that needs it: most workers never do
    holds_first_frame: bool = False  # it may be a text-to-video model, even the one that renders


NO_COMPANION = CompanionFiles()
