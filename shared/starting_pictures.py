"""Where the pictures that a job starts from are kept, until it has ended."""

import tempfile
from pathlib import Path

from shared.ports import ArtifactStore
from shared.submission import StartingPicture


def keep(picture: StartingPicture, key: str, artifacts: ArtifactStore) -> None:
    """Raises ``ArtifactStoreUnavailable``."""
    with tempfile.NamedTemporaryFile(prefix="promptreel-") as file:
        file.write(picture.content)
        file.flush()
        artifacts.put(key, Path(file.name), content_type=picture.content_type)
