"""The providers of this installation, each connected when it is first asked for.

So are their libraries imported: most processes that could ask never do, and some must start fast.
"""

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shared.config import Config
from shared.errors import ImagesNotOffered
from shared.images.provider import ImageProvider

if TYPE_CHECKING:
    from shared.adapters.images.downloads import Downloads


class Providers:
    """For many threads: gives a provider by its name, and fetches what one has made."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._connected: dict[str, ImageProvider] = {}
        self._connecting = threading.Lock()

    def __call__(self, name: str) -> ImageProvider:
        """Raises ``ImagesNotOffered`` where none of that name is set up, and ``ModelUnavailable``."""
        with self._connecting:
            if name not in self._connected:
                self._connected[name] = self._connect(name)
            return self._connected[name]

    def fetch(self, url: str, target: Path) -> None:
        """As ``Downloads`` does."""
        self._downloads.fetch(url, target)

    def close(self) -> None:
        with self._connecting:
            while self._connected:
                self._connected.popitem()[1].close()

    def _connect(self, name: str) -> ImageProvider:
        config = self._config
        if name == "replicate" and config.images.replicate.api_token_file is not None:
            from shared.adapters.images.replicate import ReplicateImages  # noqa: PLC0415 - see above

            return ReplicateImages(config.images.replicate)
        if name == "gemini" and config.vertex_access.names_who_asks:
            from shared.adapters.images.gemini import GeminiImages  # noqa: PLC0415 - see above

            return GeminiImages(config.vertex_access)
        raise ImagesNotOffered

    @cached_property
    def _downloads(self) -> "Downloads":
        from shared.adapters.images.downloads import Downloads  # noqa: PLC0415 - see above

        return Downloads.of(self._config.images)
