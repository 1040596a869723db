"""Greedy dedup as its definition says it, without a thought for speed."""

from __future__ import annotations

import numpy as np


def greedy_by_hand(vectors: np.ndarray, lambda_div: float) -> tuple[list[bool], list[int], list[float]]:
    """Of unit vectors (N, D), in their order: which are accepted, and the nearest accepted one before each with its
    cosine to six digits (the earliest of equals; -1 and -1.0 where there is none)."""
    accepted: list[bool] = []
    nearest: list[int] = []
    similarity: list[float] = []
    for i in range(len(vectors)):
        best, where = -1.0, -1
        for j in range(i):
            if accepted[j]:
                cosine = max(-1.0, min(1.0, round(float(vectors[i] @ vectors[j]), 6)))
                if where < 0 or cosine > best:
                    best, where = cosine, j
        accepted.append(where < 0 or best < lambda_div)
        nearest.append(where)
        similarity.append(best)
    return accepted, nearest, similarity
