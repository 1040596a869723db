"""Greedy near-duplicate removal in the order of proposal (Syn4Seg, HDIG).

A candidate with normalised embedding phi is accepted iff s < lambda_div, where s = max over the accepted u of phi . u,
and the first candidate of a bank is always accepted. How it is searched is told in synthgen/similarity/greedy.py; the
bank itself grows with what it accepts.
"""

from __future__ import annotations

import numpy as np

from synthgen.similarity.greedy import ROWS, Greedy, Store, Verdicts, joined
from synthgen.similarity.memory import MemoryStore

__all__ = ["GreedyBank", "Verdicts", "greedy_dedup", "normalised"]


class GreedyBank:
    """The accepted embeddings D_t of one class; takes candidates block by block, and the cut into blocks changes
    nothing.

    `lambda_div` 1 switches the comparison off: everything is accepted, similarities are still given.
    """

    def __init__(self, dim: int, lambda_div: float, store: Store | None = None, rows_at_once: int = ROWS) -> None:
        if not -1 <= lambda_div <= 1:
            raise ValueError(f"lambda_div is a cosine in [-1, 1], not {lambda_div}")
        self.lambda_div = lambda_div
        self._dim = dim
        self._rows_at_once = rows_at_once
        self._greedy = Greedy(store or MemoryStore(dim), rows_at_once)

    @property
    def num_judged(self) -> int:
        return self._greedy.num_judged

    @property
    def num_accepted(self) -> int:
        return self._greedy.num_accepted

    def offer(self, block: np.ndarray, limit: int | None = None) -> Verdicts:
        """Judge candidates (N, dim) of any scale, in order; stop right after the `limit`-th acceptance.

        The verdicts then cover the judged ones only, the others count as never offered. Raises ValueError for a vector
        that is zero or not finite.
        """
        self._check(block)
        left = len(block) if limit is None else limit
        parts = []
        position = 0
        while position < len(block) and left > 0:
            rows = normalised(block[position : position + self._rows_at_once])
            part = self._greedy.offer(rows, self._accepts, left)
            position += len(part.accepted)
            left -= int(part.accepted.sum())
            parts.append(part)
        return joined(parts)

    def _accepts(self, number: int, similarity: float, first: bool) -> bool:
        return first or self.lambda_div >= 1 or similarity < self.lambda_div

    def _check(self, block: np.ndarray) -> None:
        """All vectors are looked at before any is judged, without a copy of them all."""
        if block.ndim == 2 and block.shape[1] != self._dim:
            raise ValueError(f"the bank holds vectors of length {self._dim}, not {block.shape[1]}")
        for start in range(0, max(1, len(block)), ROWS):
            _largest(block[start : start + ROWS])


def greedy_dedup(vectors: np.ndarray, lambda_div: float) -> Verdicts:
    """Judge (N, dim) embeddings of any scale, in order, from an empty bank."""
    return GreedyBank(vectors.shape[1], lambda_div).offer(vectors)


def normalised(vectors: np.ndarray) -> np.ndarray:
    """(N, dim) -> float64 rows of length 1. Raises ValueError for a vector that is zero or not finite."""
    # Dividing by the largest entry first keeps the squares of very small and very large vectors in range.
    largest = _largest(vectors)
    rows = vectors.astype(np.float64)
    rows /= largest[:, None]
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return rows


def _largest(vectors: np.ndarray) -> np.ndarray:
    """(N,) float64, the largest magnitude of each vector; ValueError as `normalised`."""
    if vectors.ndim != 2:
        raise ValueError(f"expected (N, dim) vectors, got shape {vectors.shape}")
    largest = np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0).astype(np.float64))
    if not np.isfinite(largest).all() or (largest == 0).any():
        raise ValueError("a vector is zero or not finite, so it has no direction")
    return largest
