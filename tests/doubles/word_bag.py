"""Text encoder: a sentence is the sum of its words' random vectors, so that sentences with common words are near."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from doubles.calls import note
from synthgen.models import TextEmbedding

DIM = 24


class Options(BaseModel, extra="forbid"):
    tokens: bool = True


def build(options: Options, execution: object) -> WordBag:
    note("build text_encoder")
    return WordBag(options)


class WordBag:
    id = "word_bag"

    def __init__(self, options: Options) -> None:
        self._options = options

    def encode(self, prompts: Sequence[str]) -> list[TextEmbedding]:
        note("text_encoder")
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: str) -> TextEmbedding:
        words = np.stack([_vector(word) for word in ["<start>", *prompt.lower().split()]])
        return TextEmbedding(words[:, :4] if self._options.tokens else np.zeros((0, 0), np.float32), words.sum(axis=0))


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).standard_normal(DIM).astype(np.float32)
