"""Greedy near-duplicate removal in the order of proposal (Syn4Seg, HDIG).

A candidate with normalised embedding phi is accepted iff s < lambda_div, where s = max over the accepted u of phi . u,
and the first candidate of a bank is always accepted. The result is that of the plain double loop; only the products are
done in blocks.

Cosines are rounded to 6 decimals before they are compared: what is below that is noise of the encoder and of the order
of summation, and without it a decision could depend on the size of the blocks.

The products are done in float32, twice as fast as float64; what comes within their error bound of a row's best is then
computed again in float64, a handful of pairs a row, so the answer is float64's. An accepted vector is kept as two
float32 numbers, its float32 value and the rest: 8 bytes an element. Work arrays are bounded; the bank itself grows with
what it accepts.
"""

from __future__ import annotations

import dataclasses

import numpy as np

_UNITS = 1e6  # cosines are kept in millionths, whole numbers in float64
_ROWS = 256  # candidates that are compared at once
_WORK_ELEMENTS = 1 << 20  # elements of the product held at once: 4 MiB of float32
_MOST_PAIRS = 1 / 16  # share of the pairs of a block beyond which float64 for all is cheaper than for each


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What became of N candidates, in order. Indices count every candidate that the bank has judged, from 0."""

    accepted: np.ndarray  # (N,) bool
    # (N,) int64, the most similar candidate accepted before it, the earliest of equals; -1 for none
    nearest: np.ndarray
    similarity: np.ndarray  # (N,) float64, cosine to that one; -1 for none


class GreedyBank:
    """The accepted embeddings D_t of one class;

    takes candidates block by block, and the cut into blocks changes nothing.

    `lambda_div` 1 switches the comparison off: everything is accepted, similarities are still given.
    """

    def __init__(self, dim: int, lambda_div: float) -> None:
        if not -1 <= lambda_div <= 1:
            raise ValueError(f"lambda_div is a cosine in [-1, 1], not {lambda_div}")
        self.lambda_div = lambda_div
        self.num_judged = 0
        self._held = 0  # vectors in the arrays below
        self._high = np.empty((_ROWS, dim), dtype=np.float32)
        self._low = np.empty((_ROWS, dim), dtype=np.float32)
        self._order = np.empty(_ROWS, dtype=np.int64)  # candidate index of each accepted vector
        self._work = np.empty(0, dtype=np.float32)
        # |error| of a float32 product of unit vectors, summed in any order (Higham, Accuracy and Stability, sec.
        # 3.1), inputs rounded; two of
        # them, and what rounding to millionths makes equal
        self._margin = np.float32(2 * 1.01 * (dim + 3) * 2.0**-24 + 1 / _UNITS)

    @property
    def num_accepted(self) -> int:
        return self._held

    def offer(self, block: np.ndarray, limit: int | None = None) -> Verdicts:
        """Judge candidates (N, dim) of any scale, in order; stop right after the `limit`-th acceptance.

        The verdicts then cover the judged ones only, the rest counts as never offered. Raises ValueError for a vector
        that is zero or not finite.
        """
        self._check(block)
        left = len(block) if limit is None else limit
        parts = []
        position = 0
        while position < len(block) and left > 0:
            rows = normalised(block[position : position + _ROWS])
            part = self._judge(rows, left)
            position += len(part.accepted)
            left -= int(part.accepted.sum())
            parts.append(part)
        return _joined(parts)

    def _check(self, block: np.ndarray) -> None:
        """All vectors are looked at before any is judged, without a copy of them all."""
        if block.ndim == 2 and block.shape[1] != self._high.shape[1]:
            raise ValueError(f"the bank holds vectors of length {self._high.shape[1]}, not {block.shape[1]}")
        for start in range(0, max(1, len(block)), _ROWS):
            normalised(block[start : start + _ROWS])

    def _judge(self, rows: np.ndarray, limit: int) -> Verdicts:
        similarity, nearest = self._nearest_accepted(rows)
        accepted = np.zeros(len(rows), dtype=bool)
        among = np.rint(rows @ (rows.T * _UNITS))
        judged, taken = 0, 0
        while judged < len(rows) and taken < limit:
            i = judged
            judged += 1
            first = taken == 0 and self._is_empty()
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

    def _is_empty(self) -> bool:
        return self._held == 0

    def _nearest_accepted(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(similarity in millionths, candidate index) of the most similar accepted one of each row;

        (-_UNITS, -1) where there is none.
        """
        similarity = np.full(len(rows), -_UNITS)
        nearest = np.full(len(rows), -1, dtype=np.int64)
        rows32 = rows.astype(np.float32)
        best = np.full(len(rows), -np.inf, dtype=np.float32)
        step = max(1, _WORK_ELEMENTS // len(rows))
        for start in range(0, self._held, step):
            stop = min(start + step, self._held)
            product = self._product(rows32, self._high[start:stop])
            np.maximum(best, product.max(axis=1), out=best)
            near = product >= (best - self._margin)[:, None]
            count = int(np.count_nonzero(near))
            if count > max(len(rows), product.size * _MOST_PAIRS):
                self._compare_all(rows, start, stop, similarity, nearest)
            elif count:
                row, column = np.nonzero(near)
                self._compare_pairs(rows, row, column, start, similarity, nearest)
        return similarity, nearest

    def _compare_all(
        self, rows: np.ndarray, start: int, stop: int, similarity: np.ndarray, nearest: np.ndarray
    ) -> None:
        """Float64 cosines to the accepted ones start..stop; `similarity` and `nearest` are updated."""
        exact = np.rint((rows * _UNITS) @ self._exact(slice(start, stop)).T)
        column = exact.argmax(axis=1)
        best = exact[np.arange(len(rows)), column]
        closer = (best > similarity) | (nearest < 0)
        similarity[closer] = best[closer]
        nearest[closer] = self._order[start + column[closer]]

    def _compare_pairs(
        self,
        rows: np.ndarray,
        row: np.ndarray,
        column: np.ndarray,
        start: int,
        similarity: np.ndarray,
        nearest: np.ndarray,
    ) -> None:
        """The same for the pairs (row, start + column) alone, which come sorted by row and then by column."""
        exact = np.empty(len(row))
        step = max(1, _WORK_ELEMENTS // rows.shape[1])
        for first in range(0, len(row), step):
            part = slice(first, first + step)
            exact[part] = np.rint(np.einsum("ij,ij->i", rows[row[part]] * _UNITS, self._exact(start + column[part])))
        order = np.lexsort((column, -exact, row))  # best first within a row, the earliest of equals
        row, column, exact = row[order], column[order], exact[order]
        first_of_row = np.flatnonzero(np.diff(row, prepend=-1))
        row, column, exact = row[first_of_row], column[first_of_row], exact[first_of_row]
        closer = (exact > similarity[row]) | (nearest[row] < 0)
        similarity[row[closer]] = exact[closer]
        nearest[row[closer]] = self._order[start + column[closer]]

    def _exact(self, which: slice | np.ndarray) -> np.ndarray:
        """Accepted vectors in float64, to 2^-48."""
        return self._high[which].astype(np.float64) + self._low[which]

    def _product(self, rows: np.ndarray, accepted: np.ndarray) -> np.ndarray:
        size = len(rows) * len(accepted)
        if self._work.size < size:
            self._work = np.empty(size, dtype=np.float32)
        return np.matmul(rows, accepted.T, out=self._work[:size].reshape(len(rows), len(accepted)))

    def _keep(self, vectors: np.ndarray, order: np.ndarray) -> None:
        needed = self._held + len(vectors)
        if needed > len(self._order):
            room = max(needed, 2 * len(self._order))
            for name in ("_high", "_low", "_order"):
                old = getattr(self, name)
                grown = np.empty((room, *old.shape[1:]), dtype=old.dtype)
                grown[: self._held] = old[: self._held]
                setattr(self, name, grown)
        self._high[self._held : needed] = vectors
        self._low[self._held : needed] = vectors - self._high[self._held : needed]
        self._order[self._held : needed] = order
        self._held = needed


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
    return Verdicts(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("accepted", "nearest", "similarity"))
    )
