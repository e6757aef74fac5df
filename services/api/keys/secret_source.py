"""The document of keys as a secret in Secret Manager."""

from typing import TYPE_CHECKING

from services.api.keys.document import Change, KeyDocument
from services.api.keys.sources import KeyFile, KeySource
from shared.config import Config
from shared.errors import ConfigurationError, KeysUnavailable

if TYPE_CHECKING:
    from shared.adapters.gcp.secret_manager import Secret

# A handful of people change keys; one who is overtaken this often is not alone with a loop.
_TRIES = 5


class KeySecret:
    """A ``KeySource``. Each change is a version of its own."""

    def __init__(self, secret: "Secret") -> None:
        self._secret = secret

    def load(self) -> KeyDocument:
        found = self._secret.read()
        if found is None:
            raise _refused("has no version yet; make a key with `promptreel keys create OWNER`")
        return _document(found.content)

    def version(self) -> None:
        """To ask would cost as much as to load."""

    def edit(self, change: Change) -> None:
        """Versions are numbered: whoever came in between is seen by a number that is missing."""
        found = self._secret.read()
        number = found.number if found else 0
        document = _document(found.content) if found else KeyDocument()
        for _ in range(_TRIES):
            added = self._secret.add(change(document).written().encode())
            if added == number + 1:
                return
            between = self._secret.read(added - 1)
            if between is None:
                return  # A version that somebody has destroyed holds nothing to keep.
            number, document = added, _document(between.content)
        raise KeysUnavailable("too many change the keys at once; try again")


def key_source(config: Config) -> KeySource:
    """Where this installation keeps its keys."""
    if config.server.key_secret is None:
        return KeyFile(config.server.key_file)
    # Here, not above: one machine does without Google's libraries.
    from shared.adapters.gcp.secret_manager import Secret  # noqa: PLC0415

    return KeySecret(Secret(config.server.key_secret))


def _document(content: bytes) -> KeyDocument:
    try:
        return KeyDocument.read(content)
    except ValueError:
        raise _refused("holds no key file; restore an earlier version") from None


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(None, [("server.key_secret", reason)])
