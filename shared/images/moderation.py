"""Which prompts are refused before anybody is asked: a list of words, or a function of the operator's."""

import importlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import TypeAlias

from shared.config_sections import Images
from shared.errors import ConfigurationError, PromptRefused

# Raises ``PromptRefused``; its message is shown to the caller.
Moderation: TypeAlias = Callable[[str], None]


def moderation_of(config: Images) -> Moderation:
    """What the configuration names: ``images.moderation``, else the list ``images.blocked_words``.

    Raises ``ConfigurationError`` when the function cannot be found.
    """
    return (
        word_list(config.blocked_words) if config.moderation is None else _find(config.moderation)
    )


def word_list(words: Iterable[str]) -> Moderation:
    """Refuses prompts that hold one of the words, or phrases, as whole words, in whatever case."""
    wanted = [re.escape(plain) for word in words if (plain := _plain(word))]
    blocked = re.compile(rf"(?<!\w)(?:{'|'.join(wanted)})(?!\w)") if wanted else None

    def check(prompt: str) -> None:
        if blocked is not None and blocked.search(_plain(prompt)):
            # Not which word: whoever tries to get around the list is not helped.
            raise PromptRefused("This installation does not allow the prompt. Change it.")

    return check


def _plain(text: str) -> str:
    """Letters that only look different, and spaces of whatever width, are the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _find(name: str) -> Moderation:
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            None, [("images.moderation", f"{name} cannot be imported")]
        ) from error
    if not callable(found):
        raise ConfigurationError(None, [("images.moderation", f"{name} is no function")])
    checked: Moderation = found
    return checked
