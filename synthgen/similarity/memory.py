"""A store of accepted unit vectors in memory: 8 bytes an element, work arrays are bounded."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from synthgen.similarity import leading
from synthgen.similarity.greedy import ROWS, Tile, search_tiles, spans, tile_rows
from synthgen.similarity.leading import Leading


class MemoryStore:
    """Keeps a vector as two float32 numbers, its float32 value and what is left of it: float64 to 2^-48."""

    room = sys.maxsize

    def __init__(self, dim: int) -> None:
        self._held = 0  # vectors in the arrays below
        self._high = np.empty((ROWS, dim), dtype=np.float32)
        self._low = np.empty((ROWS, dim), dtype=np.float32)
        self._numbers = np.empty(ROWS, dtype=np.int64)
        self._leading: Leading | None = None  # where it pays
        self._seen = np.empty((0, 1), dtype=np.float32)  # coordinates of the vectors, if there is a basis
        self._next_fit = leading.FIRST_FIT

    def __len__(self) -> int:
        return self._held

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.search`."""
        if self._held >= self._next_fit:
            self._fit()
        if self._leading is None:
            return search_tiles(rows, self._tiles(tile_rows(len(rows))), 1.0)
        whole = self._part(slice(0, self._held))
        similarity, nearest, cost = leading.search_bounded(rows, whole, self._seen[: self._held], self._leading)
        if cost > leading.cost_of_all(rows.shape[1]):
            self._leading = None  # until the next fit
        return similarity, nearest

    def add(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """As `Store.add`."""
        needed = self._held + len(rows)
        if needed > len(self._numbers):
            room = max(needed, 2 * len(self._numbers))
            self._high, self._low = _grown(self._high, room), _grown(self._low, room)
            self._numbers = _grown(self._numbers, room)
        self._high[self._held : needed] = rows
        self._low[self._held : needed] = rows - self._high[self._held : needed]
        self._numbers[self._held : needed] = numbers
        if self._leading is not None:
            self._see(self._held, needed)
        self._held = needed

    def take_all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(high, low, numbers) of all vectors, which the store forgets."""
        held, self._held = self._held, 0
        return self._high[:held].copy(), self._low[:held].copy(), self._numbers[:held].copy()

    def _tiles(self, step: int) -> Iterator[Tile]:
        return map(self._part, spans(self._held, step))

    def _part(self, part: slice) -> Tile:
        return Tile(self._numbers[part], self._high[part], (self._high[part], self._low[part]))

    def _fit(self) -> None:
        """A basis for the vectors that are here now, or none."""
        self._next_fit = leading.REFIT * self._held
        self._leading = leading.fitted(self._high[: self._held])
        self._seen = np.empty((0, 1), dtype=np.float32)
        if self._leading is not None:
            self._see(0, self._held)

    def _see(self, start: int, stop: int) -> None:
        """Coordinates of the vectors start..stop, which follow on those before."""
        assert self._leading is not None
        if stop > len(self._seen):
            grown = np.empty((len(self._numbers), self._leading.width + 1), dtype=np.float32)
            grown[:start] = self._seen[:start]
            self._seen = grown
        for part in spans(stop - start, ROWS):
            places = slice(start + part.start, start + part.stop)
            self._seen[places] = self._leading.coordinates(self._part(places).exact(slice(None)))


def _grown(array: np.ndarray, rows: int) -> np.ndarray:
    grown = np.empty((rows, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
