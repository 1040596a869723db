"""The near-duplicate check of images: each against those kept before it.

Exact, with a bounded part of the vectors in memory (synthgen/similarity/greedy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from synthgen.similarity.greedy import Greedy
from synthgen.similarity.spool import SpoolStore

ROWS_AT_ONCE = 8192  # images that one reading of the kept ones serves

Keep = Callable[[int, float], bool]
"""(number of the image, its highest cosine to those kept before, -1 for none) -> whether it is kept."""


def nearest_kept(embeddings: Sequence[Sequence[float]] | np.ndarray, keep: Keep) -> list[float]:
    """Highest cosine of each embedding to those kept before it; -1 where none is.

    `embeddings` is (N, D), rows of length 1, in the order of the check. `keep` is called once for each row in that
    order and says whether later rows are compared with it. Similarities are rounded to 6 decimals, so that no decision
    hangs on the order in which a processor sums.
    """
    with Kept() as kept:
        return kept.check(np.asarray(embeddings, dtype=np.float64), keep)


class Kept:
    """The images kept so far, in a temporary file of `folder` if they are many."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._store: SpoolStore | None = None
        self._greedy: Greedy | None = None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        if self._store is not None:
            self._store.__exit__()

    def check(self, vectors: np.ndarray, keep: Keep) -> list[float]:
        """As `nearest_kept`, of rows (N, D) that follow those of the calls before; numbers go on from there."""
        if not len(vectors):
            return []
        if self._greedy is None:
            self._store = SpoolStore(vectors.shape[1], vectors.dtype, self._folder)
            self._greedy = Greedy(self._store, ROWS_AT_ONCE)
        rows = vectors.astype(np.float64)
        similarities: list[float] = self._greedy.offer(rows, lambda n, cosine, _: keep(n, cosine)).similarity.tolist()
        return similarities
