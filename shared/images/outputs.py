"""Bringing a provider's pictures home: fetched, checked, made JPEG, stored with a thumbnail each.

Every file has its name from the job, and is stored once: whoever does it again stores nothing new.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.config_sections import Images
from shared.errors import ArtifactStoreUnavailable, OutputRefused
from shared.images.pictures import as_jpeg, thumbnail
from shared.job import Artifact, Job
from shared.ports import ArtifactStore

_JPEG = "image/jpeg"
# More than any model makes of one order.
_MOST = 16


class Downloads(Protocol):
    def fetch(self, url: str, target: Path) -> None:
        """Raises ``OutputRefused``, and ``BackendUnavailable`` for what may work later."""


def render_id(job: Job) -> str:
    """Of what the job has made, apart from the job: it is a part of public links."""
    return job.id.replace("job_", "render_", 1)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    artifacts: ArtifactStore
    downloads: Downloads
    config: Images

    def bring_home(
        self, job: Job, outputs: Sequence[str | bytes], *, before_each: Callable[[], object]
    ) -> tuple[Artifact, ...]:
        """Of each output, its picture and its thumbnail, in order.

        Raises ``OutputRefused`` for what is no use, ``BackendUnavailable`` and
        ``ArtifactStoreUnavailable`` for what may work later.
        """
        if not 0 < len(outputs) <= _MOST:
            raise OutputRefused(f"The provider finished with {len(outputs)} pictures.")
        kept: list[Artifact] = []
        try:
            with tempfile.TemporaryDirectory(prefix="promptreel-") as folder:
                for index, output in enumerate(outputs):
                    before_each()
                    kept += self._keep(job, index, output, Path(folder))
        except OSError as error:
            # On its way home; what the artifact store cannot keep, it says itself.
            why = error.strerror or type(error).__name__
            raise ArtifactStoreUnavailable(f"the picture cannot be kept here ({why})") from error
        return tuple(kept)

    def _keep(
        self, job: Job, index: int, output: str | bytes, folder: Path
    ) -> tuple[Artifact, Artifact]:
        given, picture, small = (folder / name for name in ("given", "picture.jpg", "small.jpg"))
        if isinstance(output, bytes):
            given.write_bytes(output)
        else:
            self.downloads.fetch(output, given)
        try:
            size = as_jpeg(given, picture, max_pixels=self.config.output_max_pixels)
            small_size = thumbnail(picture, small, pixels=self.config.thumbnail_pixels)
        except ValueError as error:
            raise OutputRefused(f"The provider's picture cannot be used: {error}.") from error
        name = f"public/renders/{render_id(job)}/{index}"
        return (
            self._store("image", f"{name}.jpg", picture, size),
            self._store("thumbnail", f"{name}_thumbnail.jpg", small, small_size),
        )

    def _store(self, kind: str, key: str, file: Path, size: tuple[int, int]) -> Artifact:
        stored = self.artifacts.put(key, file, content_type=_JPEG)
        return Artifact(
            kind=kind,
            key=key,
            uri=stored.uri,
            content_type=_JPEG,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=size[0],
            height=size[1],
        )
