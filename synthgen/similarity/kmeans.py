"""Spherical k-means: centres of unit vectors by cosine, from given starts. Deterministic."""

from __future__ import annotations

import numpy as np

_DENSE = 1 << 24  # centres x vectors that one matrix product may have


def spherical_kmeans(vectors: np.ndarray, weights: np.ndarray, starts: np.ndarray, rounds: int) -> np.ndarray:
    """(K, D) unit centres of unit vectors (N, D) with weights (N,) > 0, from unit starts (K, D).

    At most `rounds` rounds, fewer if no vector changes its centre. A centre that nobody is nearest to, or whose members
    add up to nothing, stays where it was.
    """
    centres = starts
    owner = np.full(len(vectors), -1)
    for _ in range(rounds):
        closest = nearest_centre(vectors, centres)
        if np.array_equal(closest, owner):
            break
        owner = closest
        sums = _sums(vectors, weights, owner, len(centres))
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
    return centres


def nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N,) index of the centre of the highest product with each vector; the first of equals."""
    step = max(1, _DENSE // len(centres))
    parts = [slice(start, start + step) for start in range(0, max(1, len(vectors)), step)]
    return np.concatenate([np.argmax(vectors[part] @ centres.T, axis=1) for part in parts])


def _sums(vectors: np.ndarray, weights: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """(count, D) weighted sums of the vectors of each owner."""
    if count * len(vectors) <= _DENSE:
        members: np.ndarray = (owner == np.arange(count)[:, None]) * weights
        return members @ vectors
    order = np.argsort(owner, kind="stable")
    used, starts = np.unique(owner[order], return_index=True)
    sums = np.zeros((count, vectors.shape[1]), vectors.dtype)
    sums[used] = np.add.reduceat(vectors[order] * weights[order, None], starts, axis=0)
    return sums
