"""Prompts as the transformer reads them. Only a prompt's own tokens are encoded.

The text encoder masks padding out, and what it makes of it is replaced by zeros: encoding fewer
tokens gives the same embedding. Zeros are added again by whoever needs the full length.
"""

import hashlib
from collections import OrderedDict

import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from torch import Tensor

TOKENS_MAX = 512  # longer prompts are cut off; the transformer was trained with zeros up to here

_EMBEDDINGS_KEPT = 32  # at most 4 MB each with the real encoder; the negative prompt is always hot


class TextEncoder:
    """Remembers the newest embeddings: the negative prompt comes with every render."""

    def __init__(self, pipeline: WanPipeline) -> None:
        self._tokenizer = pipeline.tokenizer
        self._encoder = pipeline.text_encoder
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()

    def encode(self, prompt: str) -> Tensor:
        """(1, the prompt's own tokens, text width), at most ``TOKENS_MAX`` of them."""
        # By digest, so that no prompt outlives its render in memory.
        key = hashlib.sha256(prompt.encode()).digest()
        embedding = self._kept.pop(key, None)
        if embedding is None:
            embedding = self._encode(prompt)
        self._kept[key] = embedding
        if len(self._kept) > _EMBEDDINGS_KEPT:
            self._kept.popitem(last=False)
        return embedding

    def _encode(self, prompt: str) -> Tensor:
        tokens = self._tokenizer(
            [prompt_clean(prompt)],
            max_length=TOKENS_MAX,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        ).input_ids.to(self._encoder.device)
        states: Tensor = self._encoder(tokens, torch.ones_like(tokens)).last_hidden_state
        return states
