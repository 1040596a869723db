"""Greedy near-duplicate removal in the order of proposal (Syn4Seg, HDIG).

A candidate with normalised embedding phi is accepted iff s < lambda_div, where s = max over the accepted u of phi . u, and the first
candidate of a bank is always accepted. The result is that of the plain double loop; only the products are done in blocks.

Cosines are rounded to 6 decimals before they are compared: what is below that is noise of the encoder and of the order of summation, and
without it a decision could depend on the size of the blocks.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_UNITS = 1e6  # cosines are kept in millionths, whole numbers in float64
_ROWS = 256  # candidates that are compared at once
_WORK_ELEMENTS = 1 << 21  # elements of the product held at once: 16 MiB of float64


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What became of N candidates, in order. Indices count every candidate that the bank has judged, from 0."""

    accepted: np.ndarray  # (N,) bool
    nearest: np.ndarray  # (N,) int64, the most similar candidate accepted before it, the earliest of equals; -1 for none
    similarity: np.ndarray  # (N,) float64, cosine to that one; -1 for none


class GreedyBank:
    """The accepted embeddings D_t of one class; takes candidates block by block, and the cut into blocks changes nothing.

    `lambda_div` 1 switches the comparison off: everything is accepted, similarities are still given.
    """

    def __init__(self, dim: int, lambda_div: float) -> None:
        if not -1 <= lambda_div <= 1:
            raise ValueError(f"lambda_div is a cosine in [-1, 1], not {lambda_div}")
        self.lambda_div = lambda_div
        self.num_judged = 0
        self.num_accepted = 0
        self._vectors = np.empty((_ROWS, dim), dtype=np.float64)
        self._order = np.empty(_ROWS, dtype=np.int64)  # candidate index of each accepted vector
        self._work = np.empty(0, dtype=np.float64)

    def offer(self, block: np.ndarray, limit: int | None = None) -> Verdicts:
        """Judge candidates (N, dim) of any scale, in order; stop right after the `limit`-th acceptance.

        The verdicts then cover the judged ones only, the rest counts as never offered. Raises ValueError for a vector that is zero or
        not finite.
        """
        vectors = normalised(block)
        if vectors.shape[1] != self._vectors.shape[1]:
            raise ValueError(f"the bank holds vectors of length {self._vectors.shape[1]}, not {vectors.shape[1]}")
        left = len(vectors) if limit is None else limit
        parts = []
        for start in range(0, len(vectors), _ROWS):
            if left <= 0:
                break
            part = self._judge(vectors[start : start + _ROWS], left)
            left -= int(part.accepted.sum())
            parts.append(part)
        return _joined(parts)

    def _judge(self, rows: np.ndarray, limit: int) -> Verdicts:
        similarity, nearest = self._nearest_accepted(rows)
        accepted = np.zeros(len(rows), dtype=bool)
        among = np.rint(rows @ (rows.T * _UNITS))
        judged, taken = 0, 0
        while judged < len(rows) and taken < limit:
            i = judged
            judged += 1
            first = self.num_accepted + taken == 0
            if not first and self.lambda_div < 1 and similarity[i] / _UNITS >= self.lambda_div:
                continue
            accepted[i] = True
            taken += 1
            closer = among[i, judged:] > similarity[judged:]
            if first:
                closer[:] = True  # a cosine of exactly -1 is a neighbour too
            similarity[judged:][closer] = among[i, judged:][closer]
            nearest[judged:][closer] = self.num_judged + i
        self._keep(rows[:judged][accepted[:judged]], self.num_judged + np.flatnonzero(accepted[:judged]))
        self.num_judged += judged
        return Verdicts(accepted[:judged], nearest[:judged], similarity[:judged] / _UNITS)

    def _nearest_accepted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        similarity = np.full(len(rows), -_UNITS)
        nearest = np.full(len(rows), -1, dtype=np.int64)
        scaled = rows * _UNITS
        step = max(1, _WORK_ELEMENTS // len(rows))
        for start in range(0, self.num_accepted, step):
            stop = min(start + step, self.num_accepted)
            product = self._product(scaled, self._vectors[start:stop])
            column = product.argmax(axis=1)
            best = product[np.arange(len(rows)), column]
            closer = (best > similarity) | (nearest < 0)
            similarity[closer] = best[closer]
            nearest[closer] = self._order[start + column[closer]]
        return similarity, nearest

    def _product(self, rows: np.ndarray, accepted: np.ndarray) -> np.ndarray:
        size = len(rows) * len(accepted)
        if self._work.size < size:
            self._work = np.empty(size, dtype=np.float64)
        product = self._work[:size].reshape(len(rows), len(accepted))
        np.matmul(rows, accepted.T, out=product)
        return np.rint(product, out=product)

    def _keep(self, vectors: np.ndarray, order: np.ndarray) -> None:
        needed = self.num_accepted + len(vectors)
        if needed > len(self._vectors):
            room = max(needed, 2 * len(self._vectors))
            grown, grown_order = np.empty((room, self._vectors.shape[1])), np.empty(room, dtype=np.int64)
            grown[: self.num_accepted] = self._vectors[: self.num_accepted]
            grown_order[: self.num_accepted] = self._order[: self.num_accepted]
            self._vectors, self._order = grown, grown_order
        self._vectors[self.num_accepted : needed] = vectors
        self._order[self.num_accepted : needed] = order
        self.num_accepted = needed


def greedy_dedup(vectors: np.ndarray, lambda_div: float) -> Verdicts:
    """Judge (N, dim) embeddings of any scale, in order, from an empty bank."""
    return GreedyBank(vectors.shape[1], lambda_div).offer(vectors)


def normalised(vectors: np.ndarray) -> np.ndarray:
    """(N, dim) -> float64 rows of length 1. Raises ValueError for a vector that is zero or not finite."""
    if vectors.ndim != 2:
        raise ValueError(f"expected (N, dim) vectors, got shape {vectors.shape}")
    rows = vectors.astype(np.float64)
    # Dividing by the largest entry first keeps the squares of very small and very large vectors in range.
    largest = np.abs(rows).max(axis=1, initial=0.0)
    if not np.isfinite(largest).all() or (largest == 0).any():
        raise ValueError("a vector is zero or not finite, so it has no direction")
    rows /= largest[:, None]
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    return rows


def _joined(parts: list[Verdicts]) -> Verdicts:
    if not parts:
        return Verdicts(np.empty(0, bool), np.empty(0, np.int64), np.empty(0))
    return Verdicts(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("accepted", "nearest", "similarity")))
