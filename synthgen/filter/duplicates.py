"""The greedy near-duplicate check: each image against those kept before it.

Exact, with a bounded part of the vectors in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

_BLOCK_ROWS = 256  # rows whose order of keeping is settled at once
_TILE_ROWS = 512  # kept vectors in memory at once
_IN_MEMORY = 2**20  # bytes of kept vectors before they go to a file
_DENSE = 1 / 16  # share of a tile's pairs from which on all are computed in float64 rather than one by one
_ROUND_OFF = 1.2 * 2.0**-24  # of one float32 operation; 1.2 for what bounds leave out


def nearest_kept(embeddings: Sequence[Sequence[float]] | np.ndarray, keep: Callable[[int, float], bool]) -> list[float]:
    """Highest cosine of each embedding to those kept before it; -1 where none is.

    `embeddings` is (N, D), rows of length 1, in the order of the check. `keep(index, similarity)` is called once for
    each row in that order and says whether later rows are compared with it. Similarities are rounded to 6 decimals, so
    that no decision hangs on the order in which a processor sums.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    with Kept() as kept:
        return [
            similarity
            for start in range(0, len(vectors), _TILE_ROWS)
            for similarity in kept.check(vectors[start : start + _TILE_ROWS], keep, start)
        ]


class Kept:
    """The vectors kept so far, in a temporary file if they are many.

    Products are float32 first. Where one comes so near to a row's best that rounding could hide a better one, it is
    computed again in float64: the result is that of float64 throughout at half of the work.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by __exit__
            max_size=_IN_MEMORY, dir=None if folder is None else str(folder)
        )
        self._count = 0
        self._longest = 0.0

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def check(self, vectors: np.ndarray, keep: Callable[[int, float], bool], first: int = 0) -> list[float]:
        """As `nearest_kept`, of rows (N, D) that follow those of the call before; they are numbered from `first`.

        N is at most some thousands.
        """
        before = self._best(vectors)
        kept = np.empty_like(vectors, dtype=np.float64)
        count = 0
        result: list[float] = []
        for start in range(0, len(vectors), _BLOCK_ROWS):
            block = vectors[start : start + _BLOCK_ROWS].astype(np.float64)
            best_here = before[start : start + _BLOCK_ROWS]
            if count:
                best_here = np.maximum(best_here, (block @ kept[:count].T).max(axis=1))
            within = block @ block.T
            kept_here: list[int] = []
            for n in range(len(block)):
                best = max([float(best_here[n]), *within[n, kept_here].tolist()])
                similarity = round(min(1.0, max(-1.0, best)), 6)
                result.append(similarity)
                if keep(first + start + n, similarity):
                    kept_here.append(n)
            kept[count : count + len(kept_here)] = block[kept_here]
            count += len(kept_here)
        self._add(kept[:count], vectors.dtype)
        return result

    def _add(self, vectors: np.ndarray, dtype: np.dtype) -> None:
        self._file.seek(0, 2)
        self._file.write(vectors.astype(dtype).tobytes())
        self._count += len(vectors)
        if len(vectors):
            self._longest = max(self._longest, float(np.linalg.norm(vectors, axis=1).max()))

    def _tiles(self, width: int, dtype: np.dtype) -> Iterator[np.ndarray]:
        self._file.seek(0)
        for start in range(0, self._count, _TILE_ROWS):
            rows = min(_TILE_ROWS, self._count - start)
            yield np.frombuffer(self._file.read(rows * width * dtype.itemsize), dtype).reshape(rows, width)

    def _best(self, vectors: np.ndarray) -> np.ndarray:
        """(N,) float64: the highest product of each row with the kept ones, -1 where none is."""
        count, width = vectors.shape
        exact = np.full(count, -1.0)
        if not count or not self._count:
            return exact
        rough, wide = vectors.astype(np.float32), vectors.astype(np.float64)
        # |error of a float32 product| <= (D + 2) * round-off * lengths; of two products that are compared, twice that
        margin = (
            2 * (width + 2) * _ROUND_OFF * max(1.0, self._longest) * max(1.0, float(np.linalg.norm(wide, axis=1).max()))
        )
        best = np.full(count, -np.inf, dtype=np.float32)
        for tile in self._tiles(width, vectors.dtype):
            products = rough @ tile.astype(np.float32, copy=False).T
            np.maximum(best, products.max(axis=1), out=best)
            rows, columns = np.nonzero(products >= (best - np.float32(margin))[:, None])
            if len(rows) > _DENSE * products.size:
                np.maximum(exact, (wide @ tile.astype(np.float64).T).max(axis=1), out=exact)
                continue
            for start in range(0, len(rows), _TILE_ROWS):
                some = slice(start, start + _TILE_ROWS)
                np.maximum.at(
                    exact, rows[some], np.einsum("ij,ij->i", wide[rows[some]], tile[columns[some]].astype(np.float64))
                )
        return exact
