"""Prompts as the transformer reads them. Only a prompt's own tokens are encoded.

The text encoder masks padding out, and what it makes of it is replaced by zeros: encoding fewer
tokens gives the same embedding. Zeros are added again by whoever needs the full length.
"""

import hashlib
import html
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from ftfy import fix_text
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from services.gpu_worker.engine.umt5 import UMT5Encoder

TOKENS_MAX = 512  # longer prompts are cut off; the transformer was trained with zeros up to here

_EMBEDDINGS_KEPT = 32  # at most 4 MB each with the real encoder; the negative prompt is always hot

_WORD = re.compile(r"\w+")


def load_tokenizer(file: Path) -> Tokenizer:
    """Cuts prompts off at ``TOKENS_MAX``, the end token included.

    Raises ``ValueError`` when the tokenizer.json cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower one
        raise ValueError(f"{file.name} cannot be read") from error
    tokenizer.enable_truncation(TOKENS_MAX)
    tokenizer.no_padding()
    return tokenizer


def clean_prompt(prompt: str) -> str:
    """As Wan's authors clean the captions: mended, HTML entities read, one space between words.

    Entities are read twice, for those that were written twice.
    """
    text = html.unescape(html.unescape(fix_text(prompt)))
    return " ".join(text.split())


def digest_of(prompt: str) -> str:
    """What an embedding is found by, so that no prompt outlives its render in memory."""
    return hashlib.sha256(prompt.encode()).hexdigest()


class TextEncoder:
    """Remembers the newest embeddings: the negative prompt comes with every render.

    Some may be known from the start, by their prompt's digest.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: UMT5Encoder,
        known: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._kept = OrderedDict(known)

    def encode(self, prompt: str) -> Tensor:
        """(1, the prompt's own tokens, text width), at most ``TOKENS_MAX`` of them."""
        key = digest_of(prompt)
        embedding = self._kept.pop(key, None)
        if embedding is None:
            embedding = self._encode(prompt)
        self._kept[key] = embedding
        if len(self._kept) > _EMBEDDINGS_KEPT:
            self._kept.popitem(last=False)
        return embedding

    def unknown_words(self, prompt: str) -> tuple[list[int], int]:
        """Which of the prompt's words mean nothing to the model, counted from 1, of how many.

        No word is where the tokenizer spells what it does not know.
        """
        words = _WORD.findall(clean_prompt(prompt))
        if not isinstance(self._tokenizer.model, WordLevel):
            return [], len(words)
        unknown = self._tokenizer.token_to_id(self._tokenizer.model.unk_token)
        read = [self._tokenizer.encode(word, add_special_tokens=False).ids for word in words]
        return [place for place, ids in enumerate(read, start=1) if unknown in ids], len(words)

    def _encode(self, prompt: str) -> Tensor:
        ids = self._tokenizer.encode(clean_prompt(prompt)).ids
        states: Tensor = self._encoder(
            torch.tensor([ids], device=self._encoder.shared.weight.device)
        )
        return states
