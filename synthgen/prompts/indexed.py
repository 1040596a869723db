"""Greedy near-duplicate removal with an inverted file, for banks whose matrix product takes too long.

The exact comparison costs (candidates x accepted x dim) multiplications: minutes at 100 000 prompts, most of an hour at
a million. Here accepted vectors are sorted into cells around k-means centres, and a candidate is compared with the
cells whose centres are nearest to it (IVF; Sivic and Zisserman 2003). The vectors accepted last, up to `FLUSH`, are in
no cell yet and are compared exactly.

What is accepted may then have a near neighbour in a cell that was not looked at: benchmarks/dedup.py measures how
often. What is refused has one for certain. Up to FLUSH accepted prompts the answer is the exact one, and the cut into
blocks never changes it.
"""

from __future__ import annotations

import numpy as np

from synthgen.prompts.dedup import GreedyBank
from synthgen.similarity.greedy import UNITS
from synthgen.similarity.kmeans import nearest_centre, spherical_kmeans
from synthgen.similarity.memory import MemoryStore

FLUSH = 4096  # accepted vectors that are compared exactly before they go into cells
PROBES = 32  # cells that a candidate is compared with [ours: see the rows dedup/100k_384/ours_ivf_*]
# candidates that are looked up in the cells at once: enough of them meet in each cell for a matrix product
SEARCHED = 4096
_CELLS = 2.0  # cells = this x sqrt(vectors)
_TRAINED_ON = 32  # vectors a cell for k-means
_ROUNDS = 8  # of k-means
_REGROWN = 4  # train again when there are so many times more vectors


class IndexedBank(GreedyBank):
    """A GreedyBank whose older members lie in cells: it may accept what has a near neighbour in a cell that was not
    looked at.
    """

    def __init__(self, dim: int, lambda_div: float, *, flush: int = FLUSH, probes: int = PROBES) -> None:
        super().__init__(dim, lambda_div, IndexedStore(dim, flush, probes), SEARCHED)


class IndexedStore:
    """The vectors accepted last in memory, those before in cells."""

    def __init__(self, dim: int, flush: int, probes: int) -> None:
        self._flush = flush
        self._recent = MemoryStore(dim)
        self._cells = Cells(dim, probes)

    @property
    def room(self) -> int:
        """Until the next flush, which changes the cells, so that what follows it is looked up again."""
        return self._flush - len(self._recent)

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.search`, but for neighbours in cells that are not looked at."""
        similarity, nearest = self._recent.search(rows)
        in_cells, number = self._cells.search(rows)
        # What lies in cells was accepted earlier, so it wins among equals.
        closer = (number >= 0) & ((in_cells >= similarity) | (nearest < 0))
        return np.where(closer, in_cells, similarity), np.where(closer, number, nearest)

    def add(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """As `Store.add`, at most `room` of them."""
        self._recent.add(rows, numbers)
        if not self.room:
            self._cells.add(*self._recent.take_all())


class Cells:
    """Vectors sorted by the nearest of their k-means centres."""

    def __init__(self, dim: int, probes: int) -> None:
        self._probes = probes
        self._centres = np.empty((0, dim), dtype=np.float32)
        self._high = np.empty((0, dim), dtype=np.float32)
        self._low = np.empty((0, dim), dtype=np.float32)
        self._order = np.empty(0, dtype=np.int64)
        self._starts = np.zeros(1, dtype=np.int64)  # cell c holds the vectors _starts[c].._starts[c + 1]
        self._trained_on = 0

    def __len__(self) -> int:
        return len(self._order)

    def add(self, high: np.ndarray, low: np.ndarray, order: np.ndarray) -> None:
        """Take in unit vectors high + low (N, dim) with their candidate indices;

        trains the centres when there are many more than before.
        """
        high, low, order = (
            np.concatenate([self._high, high]),
            np.concatenate([self._low, low]),
            np.concatenate([self._order, order]),
        )
        if len(order) >= _REGROWN * self._trained_on:
            self._centres = k_means(high, max(1, round(_CELLS * len(order) ** 0.5)))
            self._trained_on = len(order)
        cell = nearest_centre(high, self._centres)
        by_cell = np.lexsort((order, cell))
        self._high, self._low, self._order = high[by_cell], low[by_cell], order[by_cell]
        self._starts = np.searchsorted(cell[by_cell], np.arange(len(self._centres) + 1))

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(similarity in millionths, candidate index) of the best vector in the probed cells for each unit row (N,
        dim); index -1 for none.
        """
        similarity = np.full(len(rows), -UNITS)
        nearest = np.full(len(rows), -1, dtype=np.int64)
        if not len(self):
            return similarity, nearest
        rows32 = rows.astype(np.float32)
        probes = min(self._probes, len(self._centres))
        probed = np.argpartition(-(rows32 @ self._centres.T), probes - 1, axis=1)[:, :probes]
        row = np.repeat(np.arange(len(rows)), probes)[np.argsort(probed, axis=None, kind="stable")]
        edges = np.searchsorted(np.sort(probed, axis=None), np.arange(len(self._centres) + 1))
        best = np.full(len(rows), -np.inf, dtype=np.float32)
        where = np.full(len(rows), -1, dtype=np.int64)
        for cell in range(len(self._centres)):
            asking = row[edges[cell] : edges[cell + 1]]
            start, stop = self._starts[cell], self._starts[cell + 1]
            if not len(asking) or start == stop:
                continue
            product = rows32[asking] @ self._high[start:stop].T
            column = product.argmax(axis=1)
            found = product[np.arange(len(asking)), column]
            closer = found > best[asking]
            best[asking[closer]] = found[closer]
            where[asking[closer]] = start + column[closer]
        hit = np.flatnonzero(where >= 0)
        for few in np.array_split(hit, -(-len(hit) // 1024) or 1):
            exact = self._high[where[few]].astype(np.float64) + self._low[where[few]]
            similarity[few] = np.rint(np.einsum("ij,ij->i", rows[few] * UNITS, exact))
            nearest[few] = self._order[where[few]]
        return similarity, nearest


def k_means(vectors: np.ndarray, num_cells: int) -> np.ndarray:
    """(num_cells, dim) unit float32 centres by spherical k-means on at most 32 vectors a cell; fixed seed.

    At most len(vectors) cells.
    """
    rng = np.random.default_rng(0)
    num_cells = min(num_cells, len(vectors))
    sample = vectors[np.sort(rng.permutation(len(vectors))[: _TRAINED_ON * num_cells])]
    starts = sample[np.sort(rng.permutation(len(sample))[:num_cells])].astype(np.float32)
    return spherical_kmeans(sample, np.ones(len(sample), np.float32), starts, _ROUNDS)
