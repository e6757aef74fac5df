"""What must never be read in a log, nor anywhere else that telemetry ends: secrets and prompts."""

import hashlib
import hmac
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

# What must never be read in a log, whoever wrote the line. First what each has in it, in small letters:
# nearly all texts have none, and looking for that is quick.
_SECRETS = (
    ("bearer", re.compile(r"(?i)\b(bearer)\s+[^\s\"']+"), r"\1 [redacted]"),
    ("pr_", re.compile(r"\bpr_[0-9a-z]+_[0-9A-Za-z_-]+"), "pr_[redacted]"),
    (
        "=",
        re.compile(r"(?i)([?&](?:[^=&\s]*(?:signature|token|credential|key)))=[^&\s\"']+"),
        r"\1=[redacted]",
    ),
    # As a repr or as JSON, also quoted once more: what an exception's text may quote of a request.
    (
        "prompt",
        re.compile(
            r"(?i)\b((?:negative_)?prompt\\*[\"']?\s*[=:]\s*)"
            r"\\*(?:\"(?:[^\"\\\n]|\\+.)*\"?|'(?:[^'\\\n]|\\+.)*'?)"
        ),
        r"\1[redacted]",
    ),
    # As pydantic quotes what it refuses.
    ("input_value=", re.compile(r"(\binput_value=).*?(?=, input_type=)"), r"\1[redacted]"),
)
_SECRET_FIELDS = frozenset({"prompt", "negative_prompt", "authorization", "token", "key"})


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:  # noqa: ANN401 - structlog's processor type
    """Take secrets and prompts out of a log line."""
    for name, value in event.items():
        if not name.startswith("_"):  # structlog's own notes, never printed
            event[name] = _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever is logged
    if name.lower() in _SECRET_FIELDS:
        return "[redacted]"
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {str(key): _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(name, inner) for inner in value]
    return redact_text(repr(value))


def redact_text(text: str) -> str:
    small = text.lower()
    for hint, pattern, replacement in _SECRETS:
        if hint in small:
            text = pattern.sub(replacement, text)
    return text


def hash_prompt(key: bytes, prompt: str) -> str:
    """A keyed hash of a prompt: equal prompts look equal in the logs of one installation only."""
    return hmac.new(key, b"prompt\n" + prompt.encode(), hashlib.sha256).hexdigest()[:16]
