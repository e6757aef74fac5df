"""One picture as it travels between the stages and to models elsewhere: encoded, with its type."""

import re
from dataclasses import dataclass, field
from typing import Self

from shared.errors import InvalidRequest

_SIGNATURES = {
    re.compile(rb"\x89PNG\r\n\x1a\n"): "image/png",
    re.compile(rb"\xff\xd8\xff"): "image/jpeg",
    re.compile(rb"RIFF.{4}WEBP", re.DOTALL): "image/webp",
}


@dataclass(frozen=True)
class Still:
    """A PNG, a JPEG or, for Gemini, a WebP. Its ``repr`` is safe to log."""

    content: bytes = field(repr=False)
    content_type: str

    @classmethod
    def of(cls, content: bytes) -> Self:
        """Its type is read from its first bytes. Raises ``InvalidRequest`` for any other."""
        for signature, content_type in _SIGNATURES.items():
            if signature.match(content):
                return cls(content, content_type)
        raise InvalidRequest("An image must be a PNG, a JPEG or a WebP.", field="image")
