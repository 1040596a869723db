"""A store of accepted unit vectors in memory: 8 bytes an element, work arrays are bounded."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from synthgen.similarity.greedy import ROWS, Tile, search_tiles, spans, tile_rows


class MemoryStore:
    """Keeps a vector as two float32 numbers, its float32 value and what is left of it: float64 to 2^-48."""

    room = sys.maxsize

    def __init__(self, dim: int) -> None:
        self._held = 0  # vectors in the arrays below
        self._high = np.empty((ROWS, dim), dtype=np.float32)
        self._low = np.empty((ROWS, dim), dtype=np.float32)
        self._numbers = np.empty(ROWS, dtype=np.int64)

    def __len__(self) -> int:
        return self._held

    def search(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Store.search`."""
        return search_tiles(rows, self._tiles(tile_rows(len(rows))), 1.0)

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
        self._held = needed

    def take_all(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(high, low, numbers) of all vectors, which the store forgets."""
        held, self._held = self._held, 0
        return self._high[:held].copy(), self._low[:held].copy(), self._numbers[:held].copy()

    def _tiles(self, step: int) -> Iterator[Tile]:
        for part in spans(self._held, step):
            yield Tile(self._numbers[part], self._high[part], (self._high[part], self._low[part]))


def _grown(array: np.ndarray, rows: int) -> np.ndarray:
    grown = np.empty((rows, *array.shape[1:]), dtype=array.dtype)
    grown[: len(array)] = array
    return grown
