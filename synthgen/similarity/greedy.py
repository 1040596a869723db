"""The greedy near-duplicate search: each vector against those accepted before it, in order.

The result is that of the plain double loop; only the products are done in blocks. Products are rounded to 6 decimals
before they are compared: what is below that is noise of the encoder and of the order of summation, and without it a
decision could depend on the size of the blocks.

The products are done in float32, twice as fast as float64; what comes within their error bound of a row's best is then
computed again in float64, a handful of pairs a row, so the answer is float64's. Where the accepted vectors lie is a
store's affair: in memory (synthgen/similarity/memory.py), in a file (synthgen/similarity/spool.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np

UNITS = 1e6  # products are kept in millionths, whole numbers in float64
ROWS = 256  # rows whose order of acceptance is settled at once
WORK_ELEMENTS = 1 << 20  # elements of the product held at once: 4 MiB of float32
_MOST_PAIRS = 1 / 16  # share of the pairs of a tile beyond which float64 for all is cheaper than for each
_ROUND_OFF = 1.01 * 2.0**-24  # of one float32 operation; 1.01 for what bounds leave out

Accept = Callable[[int, float, bool], bool]
"""(number of the row, its highest product with an accepted one, whether there is none) -> whether it is accepted."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What became of N rows, in order. Numbers count every row that was ever judged, from 0."""

    accepted: np.ndarray  # (N,) bool
    # (N,) int64, number of the most similar row accepted before it, the earliest of equals; -1 for none
    nearest: np.ndarray
    similarity: np.ndarray  # (N,) float64, product with that one, at most 1; -1 for none


@dataclasses.dataclass(frozen=True, slots=True)
class Tile:
    """Some of the accepted vectors, in the order of their acceptance."""

    numbers: np.ndarray  # (T,) int64, which rows they were
    rough: np.ndarray  # (T, D) float32
    parts: tuple[np.ndarray, ...]  # (T, D) each; in float64 they add up to the vectors

    def exact(self, places: slice | np.ndarray) -> np.ndarray:
        """Those at some places in float64."""
        first, *others = (part[places].astype(np.float64) for part in self.parts)
        return np.asarray(sum(others, first))

    def part(self, places: slice) -> Tile:
        """Those of a slice, without a copy."""
        return Tile(self.numbers[places], self.rough[places], tuple(part[places] for part in self.parts))


class Store(Protocol):
    """Holds the accepted vectors."""

    @property
    def room(self) -> int:
        """How many it takes before it must be asked anew: at least 1."""
        ...

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(product in millionths, number) of the accepted one nearest to each row (N, D) float64; -1 for none."""
        ...

    def add(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Take in rows (N, D) float64, accepted after all before."""
        ...


class Greedy:
    """Judges rows in order; the cut into calls and blocks changes nothing."""

    def __init__(self, store: Store, rows_at_once: int = ROWS) -> None:
        """`rows_at_once` rows are looked up in the store together."""
        self.num_judged = 0
        self.num_accepted = 0
        self._store = store
        self._rows_at_once = rows_at_once

    def offer(self, rows: np.ndarray, accept: Accept, limit: int | None = None) -> Verdicts:
        """Judge rows (N, D) float64, none longer than about 1; stop right after the `limit`-th acceptance.

        The verdicts then cover the judged ones only, the others count as never offered.
        """
        left = len(rows) if limit is None else limit
        parts = []
        position = 0
        while position < len(rows) and left > 0:
            chunk = rows[position : position + self._rows_at_once]
            part = self._judge(chunk, accept, min(left, self._store.room))
            position += len(part.accepted)
            left -= int(part.accepted.sum())
            parts.append(part)
        return joined(parts)

    def _judge(self, rows: np.ndarray, accept: Accept, limit: int) -> Verdicts:
        similarity, nearest = self._store.search(rows)
        accepted = np.zeros(len(rows), dtype=bool)
        taken = np.empty(0, dtype=np.int64)  # places of the accepted ones among these rows
        judged = 0
        while judged < len(rows) and len(taken) < limit:
            block = slice(judged, judged + ROWS)
            if len(taken):
                self._compare(rows, block, taken, similarity, nearest)
            judged += self._judge_block(rows, block, accept, limit - len(taken), accepted, similarity, nearest)
            taken = np.flatnonzero(accepted[:judged])
        self._store.add(rows[taken], self.num_judged + taken)
        self.num_judged += judged
        self.num_accepted += len(taken)
        return Verdicts(accepted[:judged], nearest[:judged], similarity[:judged] / UNITS)

    def _compare(
        self, rows: np.ndarray, block: slice, taken: np.ndarray, similarity: np.ndarray, nearest: np.ndarray
    ) -> None:
        """A block with what was accepted of the rows before it, which the store does not hold yet."""
        products = _millionths(rows[block] * UNITS, rows[taken].T)
        place = products.argmax(axis=1)
        best = products[np.arange(len(products)), place]
        closer = (best > similarity[block]) | (nearest[block] < 0)
        similarity[block] = np.where(closer, best, similarity[block])
        nearest[block] = np.where(closer, self.num_judged + taken[place], nearest[block])

    def _judge_block(
        self,
        rows: np.ndarray,
        block: slice,
        accept: Accept,
        limit: int,
        accepted: np.ndarray,
        similarity: np.ndarray,
        nearest: np.ndarray,
    ) -> int:
        """How many were judged; `accepted`, `similarity` and `nearest` are updated."""
        among = _millionths(rows[block] * UNITS, rows[block].T)
        stop = block.start + len(among)
        count = 0
        for place in range(block.start, stop):
            first = nearest[place] < 0
            if not accept(self.num_judged + place, float(similarity[place]) / UNITS, bool(first)):
                continue
            accepted[place] = True
            count += 1
            products = among[place - block.start, place - block.start + 1 :]
            later = slice(place + 1, stop)
            # without an accepted one before, a product of exactly -1 is a neighbour too
            closer = (products > similarity[later]) | (nearest[later] < 0)
            similarity[later][closer] = products[closer]
            nearest[later][closer] = self.num_judged + place
            if count == limit:
                return place + 1 - block.start
        return len(among)


def search_tiles(rows: np.ndarray, tiles: Iterable[Tile], longest: float) -> tuple[np.ndarray, np.ndarray]:
    """`Store.search` over tiles; `longest` is the length of the longest vector in them."""
    similarity = np.full(len(rows), -UNITS)
    nearest = np.full(len(rows), -1, dtype=np.int64)
    rough = rows.astype(np.float32)
    best = np.full(len(rows), -np.inf, dtype=np.float32)
    margin = margin_of(rows, longest)
    for tile in tiles:
        compare_tile(rows, rough, tile, best, margin, similarity, nearest)
    return similarity, nearest


def margin_of(rows: np.ndarray, longest: float) -> np.float32:
    """How far a float32 product, summed in any order, may lie below the highest of its row and still be the nearest.

    |error| of one (Higham, Accuracy and Stability, sec. 3.1), inputs rounded; two of them, and what rounding to
    millionths makes equal. `longest` is the length of the longest vector that rows (N, D) float64 are compared with.
    """
    lengths = max(1.0, longest) * max(1.0, float(np.linalg.norm(rows, axis=1).max(initial=0.0)))
    return np.float32(2 * _ROUND_OFF * (rows.shape[1] + 3) * lengths + 1 / UNITS)


def compare_tile(
    rows: np.ndarray,
    rough: np.ndarray,
    tile: Tile,
    best: np.ndarray,
    margin: np.float32,
    similarity: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """All rows (N, D) float64, float32 in `rough`, with a tile.

    `best` (N,) float32, the highest float32 product so far, and the answer (`similarity`, `nearest`) are updated.
    """
    products = rough @ tile.rough.T
    np.maximum(best, products.max(axis=1), out=best)
    near = products >= (best - margin)[:, None]
    count = int(np.count_nonzero(near))
    if count > max(len(rows), products.size * _MOST_PAIRS):
        _compare_all(rows, tile, similarity, nearest)
    elif count:
        row, column = np.nonzero(near)
        compare_pairs(rows, tile, row, column, similarity, nearest)


def tile_rows(num_rows: int) -> int:
    """Vectors of a tile that keep the product with `num_rows` rows within WORK_ELEMENTS."""
    return max(1, WORK_ELEMENTS // max(1, num_rows))


def joined(parts: list[Verdicts]) -> Verdicts:
    """The verdicts of successive calls as those of one."""
    if not parts:
        return Verdicts(np.empty(0, bool), np.empty(0, np.int64), np.empty(0))
    return Verdicts(
        np.concatenate([part.accepted for part in parts]),
        np.concatenate([part.nearest for part in parts]),
        np.concatenate([part.similarity for part in parts]),
    )


def spans(count: int, step: int) -> Iterator[slice]:
    """0..count in slices of `step`."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _millionths(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(rows @ others), -UNITS, UNITS)


def _compare_all(rows: np.ndarray, tile: Tile, similarity: np.ndarray, nearest: np.ndarray) -> None:
    """Float64 products with a whole tile; `similarity` and `nearest` are updated."""
    products = _millionths(rows * UNITS, tile.exact(slice(None)).T)
    column = products.argmax(axis=1)
    best = products[np.arange(len(rows)), column]
    _take_closer(np.arange(len(rows)), best, tile.numbers[column], similarity, nearest)


def compare_pairs(
    rows: np.ndarray,
    tile: Tile,
    row: np.ndarray,
    column: np.ndarray,
    similarity: np.ndarray,
    nearest: np.ndarray,
) -> None:
    """The same for the pairs (row, column) alone, which come sorted by row and then by column."""
    products = np.empty(len(row))
    for part in spans(len(row), max(1, WORK_ELEMENTS // rows.shape[1])):
        exact = np.einsum("ij,ij->i", rows[row[part]] * UNITS, tile.exact(column[part]))
        products[part] = np.clip(np.rint(exact), -UNITS, UNITS)
    order = np.lexsort((column, -products, row))  # best first within a row, the earliest of equals
    row, column, products = row[order], column[order], products[order]
    first_of_row = np.flatnonzero(np.diff(row, prepend=-1))
    row, column, products = row[first_of_row], column[first_of_row], products[first_of_row]
    _take_closer(row, products, tile.numbers[column], similarity, nearest)


def _take_closer(
    row: np.ndarray, products: np.ndarray, numbers: np.ndarray, similarity: np.ndarray, nearest: np.ndarray
) -> None:
    """One product for each of some rows: the highest stays, of equals the earliest, in whatever order they come."""
    before, product_before = nearest[row], similarity[row]
    closer = (products > product_before) | ((products == product_before) & (numbers < before)) | (before < 0)
    similarity[row[closer]] = products[closer]
    nearest[row[closer]] = numbers[closer]
