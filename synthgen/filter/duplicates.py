"""The greedy near-duplicate check: each image against those kept before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

_BLOCK_ROWS = 256  # rows compared with all kept ones in one product


def nearest_kept(embeddings: Sequence[Sequence[float]], keep: Callable[[int, float], bool]) -> list[float]:
    """Highest cosine of each embedding to those kept before it; -1 where none is.

    `embeddings` is (N, D), rows of length 1, in the order of the check. `keep(index, similarity)` is called once for each row in that order
    and says whether later rows are compared with it. Similarities are rounded to 6 decimals, so that no decision hangs on the order in
    which a processor sums.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    kept = np.empty_like(vectors)
    count = 0
    result: list[float] = []
    for start in range(0, len(vectors), _BLOCK_ROWS):
        block = vectors[start : start + _BLOCK_ROWS]
        before = (block @ kept[:count].T).max(axis=1) if count else np.full(len(block), -1.0)
        within = block @ block.T
        kept_here: list[int] = []
        for n in range(len(block)):
            best = max([float(before[n]), *within[n, kept_here].tolist()])
            similarity = round(min(1.0, max(-1.0, best)), 6)
            result.append(similarity)
            if keep(start + n, similarity):
                kept_here.append(n)
        kept[count : count + len(kept_here)] = block[kept_here]
        count += len(kept_here)
    return result
