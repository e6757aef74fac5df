"""One picture as it travels between the stages and to models elsewhere: encoded, with its type."""

from dataclasses import dataclass, field
from typing import Self

from shared.errors import InvalidRequest

_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Still:
    """A PNG or a JPEG. Its ``repr`` is safe to log."""

    content: bytes = field(repr=False)
    content_type: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Its type is read from its first bytes. Raises ``InvalidRequest`` for any other."""
        for signature, content_type in _SIGNATURES.items():
            if content.startswith(signature):
                return cls(content, content_type)
        raise InvalidRequest("An image must be a PNG or a JPEG.", field="image")
