"""A text encoder for tests:

a sentence is the sum of its words' random vectors, so that sentences with common words are near.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from synthgen.models import TextEmbedding

DIM = 64


class Options(BaseModel, extra="forbid"):
    tokens: bool = True
    broken: str = ""  # a prompt with this word gets a vector of NaN


class WordBag:
    id = "word_bag"

    def __init__(self, options: Options) -> None:
        self._options = options
        self.encoded: list[list[str]] = []

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        self.encoded.append(list(prompts))
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> TextEmbedding:
        words = np.stack([word_vector(word) for word in ["<start>", *prompt.lower().replace(",", " ").split()]])
        pooled = words.sum(axis=0)
        if self._options.broken and self._options.broken in prompt:
            pooled = np.full_like(pooled, np.nan)
        return TextEmbedding(words[:, :8] if self._options.tokens else np.zeros((0, 0), np.float32), pooled)


def word_vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)


def build(options: Options, execution: object) -> WordBag:
    return WordBag(options)
