"""What the Terraform files say, read without Terraform."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

FOLDER = Path(__file__).parents[2] / "terraform"

_PLAIN = SerializationOptions(
    strip_string_quotes=True, explicit_blocks=False, with_comments=False, preserve_heredocs=False
)
_ACCOUNT = re.compile(r"google_service_account\.(\w+)")
_LOCAL = re.compile(r"local\.(\w+)")


@dataclass(frozen=True)
class Grant:
    """A role that an account gets, by a resource of this address."""

    account: str
    role: str
    address: str


@cache
def files() -> dict[str, Any]:
    return {
        file.name: hcl2.loads(file.read_text(encoding="utf-8"), serialization_options=_PLAIN)
        for file in sorted(FOLDER.glob("*.tf"))
    }


def blocks(kind: str) -> Iterator[tuple[str, Any]]:
    """Blocks with one label: variables, outputs."""
    for content in files().values():
        for block in content.get(kind, []):
            yield from block.items()


def local_values() -> dict[str, Any]:
    return {
        name: value
        for content in files().values()
        for block in content.get("locals", [])
        for name, value in block.items()
    }


def resources(kind: str | None = None) -> dict[str, Any]:
    """By address."""
    return {
        f"{found}.{name}": body
        for content in files().values()
        for block in content.get("resource", [])
        for found, named in block.items()
        for name, body in named.items()
        if kind in (None, found)
    }


def grants() -> set[Grant]:
    return {
        Grant(account, body["role"], address)
        for address, body in resources().items()
        if "role" in body
        for account in _accounts(body)
    }


def texts_of(value: Any) -> Iterator[str]:
    """Every text in it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def _accounts(body: dict[str, Any]) -> set[str]:
    """Whose accounts a grant's members are, wherever they were listed."""
    member = body["member"]
    if member == "allUsers":
        return {member}
    if "local.pubsub_agent" in member:
        return {"pubsub_agent"}
    found = _named_in(body["for_each"] if "each.value" in member else member)
    assert found, f"nobody can tell who {member} is"
    return found


def _named_in(expression: Any) -> set[str]:
    text = " ".join(texts_of(expression))
    found = set(_ACCOUNT.findall(text))
    for name in _LOCAL.findall(text):
        # The names of topics are no accounts.
        found |= _named_in(local_values()[name])
    return found
